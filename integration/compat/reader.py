#!/usr/bin/python3
"""A second reader of mailcryptfs stores, written from fs/FORMAT.md alone.

  reader.py cat FILE --key KEYFILE | --site-secret SECRETFILE  the plaintext of one stored file
  reader.py ls DIRECTORY --site-secret SECRETFILE [--root]     stored and view names of a stored directory
  reader.py batch                                              JSON jobs on standard input, for the tests

KEYFILE holds a content key as 64 hex digits; it is taken for whatever key id the file names. The site secret opens files of
class meta, those of users without keys of their own, and all names. Needs python3-cryptography of Debian 12 or later.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import sys
import tomllib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

BLOCK = 4096
TORN = 4096  # blocks, C9
HEADER = 56
NONCE, FIELD, TAG = 12, 2, 16
WRITE_ONCE, PADDED = 1, 2


class Corrupt(Exception):
    pass


class Unsupported(Exception):
    pass


class UnknownKey(Exception):
    pass


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk, info, n):
    return HKDFExpand(algorithm=hashes.SHA256(), length=n, info=info).derive(prk)


def b64url(text):
    """Section 0: without padding, and nothing that an encoder would not have written."""
    if not re.fullmatch(rb"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Corrupt("not base64url")
    out = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(out).rstrip(b"=") != text:
        raise Corrupt("base64url with stray bits")
    return out


class Site:
    """K1."""

    def __init__(self, secret):
        p = mac(b"mailcryptfs site v1", secret)  # HKDF-Extract(salt, ikm) is HMAC(salt, ikm)
        self.names_mac = expand(p, b"names mac", 32)
        self.names_enc = expand(p, b"names enc", 32)
        self.xattr = expand(p, b"xattr", 32)
        self.record_mac = expand(p, b"record mac", 32)
        self.content = {
            expand(p, b"meta content key id", 16): expand(p, b"meta content key", 32),
            expand(p, b"site delivery content key id", 16): expand(p, b"site delivery content key", 32),
        }

    @classmethod
    def load(cls, path):
        """K2."""
        with open(path, "rb") as f:
            match = re.fullmatch(rb"mailcryptfs-site-secret-1:([0-9a-f]{64})\n", f.read(200))
        if not match:
            raise Corrupt("not a site secret file")
        return cls(binascii.unhexlify(match[1]))

    def open_sealed(self, label, sealed):
        """N2."""
        tag, ct = sealed[:16], sealed[16:]
        if not ct:
            raise Corrupt("sealed name too short")
        ctr = Cipher(algorithms.AES(self.names_enc), modes.CTR(tag)).decryptor()
        name = ctr.update(ct) + ctr.finalize()
        if not hmac.compare_digest(mac(self.names_mac, label + name)[:16], tag):
            raise Corrupt("sealed name does not open")
        return name

    def seal(self, label, name):
        tag = mac(self.names_mac, label + name)[:16]
        ctr = Cipher(algorithms.AES(self.names_enc), modes.CTR(tag)).encryptor()
        return tag + ctr.update(name) + ctr.finalize()


def is_view_name(n):
    """N1."""
    return 1 <= len(n) <= 255 and b"/" not in n and b"\0" not in n and n not in (b".", b"..")


NAME, LONG = b"mailcryptfs name v1\0", b"mailcryptfs long name v1\0"
LINK, XATTR = b"mailcryptfs symlink v1\0", b"mailcryptfs xattr v1\0"


def read_name(site, stored, side=None, root=False):
    """Section 2: returns (kind, view name). side is the content of the side entry, None if there is none."""
    if root and stored == b".mailcryptfs":
        return "hidden", b""
    if not re.match(rb"mc[0-9][=+~!]", stored):
        return "plain", stored
    if stored[2:3] != b"1":
        return "unsupported", stored
    rest = stored[4:]
    if stored[3:4] == b"!":
        return "hidden", b""  # N12
    try:
        if stored[3:4] == b"~":
            if not is_view_name(rest):
                raise Corrupt("not a name")
            return "plain-named", rest
        if stored[3:4] == b"=":
            name = site.open_sealed(NAME, b64url(rest))
            if not is_view_name(name) or len(name) > 172:
                raise Corrupt("not a name")
            return "encrypted", name
        is_side = rest.endswith(b".n")
        h = rest[:-2] if is_side else rest
        if len(h) != 43:
            raise Corrupt("wrong length")
        h = b64url(h)
        if is_side:
            return "hidden", b""
        if side is None or not 189 <= len(side) <= 271:
            raise Corrupt("side entry of the wrong size")
        name = site.open_sealed(NAME, side)
        if not is_view_name(name) or mac(site.names_mac, LONG + name) != h:
            raise Corrupt("side entry of another name")
        return "long", name
    except Corrupt:
        return "damaged", stored


def stored_name(site, name):
    """N3, N4: the stored name, and the content of the side entry or None."""
    enc = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=")
    if len(name) <= 172:
        return b"mc1=" + enc(site.seal(NAME, name)), None
    return b"mc1+" + enc(mac(site.names_mac, LONG + name)), site.seal(NAME, name)


def read_target(site, stored):
    """N10."""
    if not stored.startswith(b"mc1="):
        raise Corrupt("not a sealed target")
    target = site.open_sealed(LINK, b64url(stored[4:]))
    if len(target) > 3050 or len(target) != (len(stored) - 4) * 3 // 4 - 16:
        raise Corrupt("target of the wrong size")
    return target


def read_xattr(site, name, value):
    """X1: name and value as stored."""
    if not name.startswith(b"user.mc1."):
        raise Corrupt("not a sealed attribute")
    n = site.open_sealed(XATTR, b64url(name[len(b"user.mc1.") :]))
    if len(value) < NONCE + TAG:
        raise Corrupt("value too short")
    try:
        return n, AESGCM(site.xattr).decrypt(value[:NONCE], value[NONCE:], XATTR + n)
    except InvalidTag:
        raise Corrupt("value does not open")


def capacity(no):
    return BLOCK - NONCE - FIELD - TAG - (HEADER if no == 0 else 0)


class File:
    """Section 3: a stored file of size > 0, given as bytes."""

    def __init__(self, stored, keys):
        self.size = 0
        self.blocks = []
        torn = 0
        while stored and len(stored) % BLOCK == 0 and not any(stored[-BLOCK:]):
            stored = stored[:-BLOCK]  # C9
            torn += 1
        if torn > TORN:
            raise Corrupt("more than %d blocks of zeros at the end" % TORN)
        if not stored:
            return
        if stored[:4] != b"mcfs":
            raise Corrupt("no magic")
        if stored[4:5] and stored[4] != 1:
            raise Unsupported("version %d" % stored[4])  # F1
        header = stored[:HEADER]
        if len(header) < HEADER or header[5] not in (WRITE_ONCE, PADDED) or header[6:8] != b"\0\0":
            raise Corrupt("bad header")
        self.layout, self.key_id, salt = header[5], header[8:24], header[24:]
        self.header = header
        self.blocks = [stored[i : i + BLOCK] for i in range(0, len(stored), BLOCK)]
        last = len(self.blocks) - 1
        final, length = self.field(last)
        if self.layout == WRITE_ONCE and not final:
            raise Corrupt("the end is lost")  # C7
        self.final = final
        self.size = self.start(last) + length
        if self.key_id not in keys:
            raise UnknownKey(self.key_id.hex())  # C12
        info = b"mailcryptfs file v1\0" + self.key_id + salt
        self.gcm = AESGCM(expand(keys[self.key_id], info, 32))  # C6

    @staticmethod
    def start(no):
        return 0 if no == 0 else 4010 + 4066 * (no - 1)

    def record(self, no):
        return self.blocks[no][HEADER if no == 0 else 0 :]

    def field(self, no):
        """C4, C5, C10: final mark and length, judged by the bytes that are there."""
        r = self.record(no)
        if len(r) < NONCE + FIELD:
            raise Corrupt("block %d too short" % no)
        value = int.from_bytes(r[NONCE : NONCE + FIELD], "big")
        final, length = bool(value & 0x8000), value & 0x7FFF
        if not 1 <= length <= capacity(no):
            raise Corrupt("block %d: length %d" % (no, length))
        end = NONCE + FIELD + (length if final else capacity(no)) + TAG
        if len(r) < end:
            raise Corrupt("block %d cut" % no)
        if len(r) > end and (len(self.blocks[no]) != BLOCK or any(r[end:])):
            raise Corrupt("block %d: data behind its end" % no)
        return final, length

    def open(self, no):
        """The payload of block no, as long as the file has bytes there."""
        final, length = self.field(no)
        last = no == len(self.blocks) - 1
        if final != (last and self.final):
            raise Corrupt("block %d: final mark" % no)
        r = self.record(no)
        ad = (self.header if no == 0 else b"\1") + r[NONCE : NONCE + FIELD] + no.to_bytes(8, "big")
        text = r[NONCE + FIELD :][: (length if final else capacity(no)) + TAG]
        try:
            plain = self.gcm.decrypt(r[:NONCE], text, ad)
        except InvalidTag:
            raise Corrupt("block %d does not open" % no)
        if any(plain[length:]):
            raise Corrupt("block %d: padding" % no)
        if self.layout == WRITE_ONCE and not last and length != capacity(no):
            raise Corrupt("block %d is not full" % no)  # C7
        return plain[:length] if last else plain  # C8: an inner block is filled with zeros


# K10 to K19: the name of each kind of record, and its largest size.
RECORDS = {
    "user": (b"mailcryptfs user record", 1 << 20),
    "delivery": (b"mailcryptfs delivery key", 8 << 10),
    "store": (b"mailcryptfs store", 8 << 10),
    "forgotten": (b"mailcryptfs forgotten user", 8 << 10),
    "used": (b"mailcryptfs slot use", 16 << 10),
}
# K10, K16, K17: the keys of tables in a user's record, and those of slots by their kind.
TABLES = {
    "rotation": {"started", "by", "identity", "pending"},
    "content_key": {"id", "created", "state", "sealed"},
    "identity": {"public", "replaced", "sealed"},
}
SLOT = {"id", "kind", "label", "created", "created_by", "wrapped"}
SLOTS = {
    "password": SLOT | {"public", "memory_kib", "time", "threads"},
    "code": SLOT | {"public"},
    "recovery": SLOT | {"recipient"},
}


def read_record(site, stored, kind):
    """K9, and of K10 which keys there are: returns the record, or raises Corrupt, Unsupported or UnknownKey for a wrong MAC."""
    name, limit = RECORDS[kind]
    if len(stored) > limit:
        raise Corrupt("too large")
    m = re.match(rb'mac = "([0-9a-f]{64})"\n(format = "([a-z ]{1,64})"\nversion = (0|[1-9][0-9]{0,8})\n)', stored)
    if not m:
        raise Corrupt("not the first three lines of a record")
    if m[4] != b"1":
        raise Unsupported("version %s" % m[4].decode())
    want = mac(site.record_mac, b"mailcryptfs record v1\0" + m[3] + b"\0" + stored[m.start(2) :])
    if not hmac.compare_digest(want.hex().encode(), m[1]):
        raise UnknownKey("the MAC is another")
    if m[3] != name:
        raise Corrupt("a record of another kind")
    try:
        record = tomllib.loads(stored.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise Corrupt(str(e))
    if kind != "user":
        return record
    if not isinstance(record.get("rotation", {}), dict):
        raise Corrupt("rotation is no table")
    for key in ("slot", "content_key", "identity"):
        if not isinstance(record.get(key, []), list):
            raise Corrupt("%s is no list" % key)
    for key, keys in TABLES.items():
        for t in [record[key]] if key == "rotation" and key in record else record.get(key, []):
            if set(t) != keys:
                raise Corrupt("keys of %s" % key)
    for slot in record.get("slot", []):
        if set(slot) != SLOTS.get(slot.get("kind"), set(slot)):
            raise Corrupt("keys of a slot")
    return record


CODE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def read_code(text):
    """K20: the 20 bytes of a recovery code."""
    text = re.sub(r"[\s._,:/-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if len(text) != 40 or not set(text) <= set(CODE):
        raise Corrupt("not a recovery code")
    values, n = [CODE.index(c) for c in text], 0
    for g in range(8):
        check = g
        for i, v in enumerate(values[5 * g : 5 * g + 4]):
            n = n << 5 | v
            for _ in range(i + 1):  # times x
                v <<= 1
                v ^= 0b100101 if v & 32 else 0
            check ^= v
        if check != values[5 * g + 4]:
            raise Corrupt("group %d" % (g + 1))
    return n.to_bytes(20, "big")


def code_seed(c, user, slot):
    """K20."""
    return expand(mac(b"mailcryptfs recovery code v1", c), b"mailcryptfs code slot v1\0" + user + b"\0" + slot, 32)


def job_record(job):
    record = read_record(Site(bytes.fromhex(job["secret"])), base64.b64decode(job["stored"] or b""), job["kind"])
    return {"result": "ok", "size": len(record)}


def job_code(job):
    c = read_code(base64.b64decode(job["stored"]).decode())
    seed = code_seed(c, base64.b64decode(job["name"]), base64.b64decode(job["side"]))
    return {"result": "ok", "stored": base64.b64encode(c).decode(), "value": base64.b64encode(seed).decode()}


def job_content(job):
    keys = {bytes.fromhex(i): bytes.fromhex(k) for i, k in job["keys"].items()}
    f = File(base64.b64decode(job["stored"] or b""), keys)
    good, bad = hashlib.sha256(), []
    for no in range(len(f.blocks)):
        try:
            good.update(f.open(no))
        except Corrupt:
            bad.append(no)
    return {"result": "corrupt" if bad else "ok", "size": f.size, "bad": bad, "sha256": good.hexdigest()}


def job_name(job):
    side = job.get("side")
    side = None if side is None else base64.b64decode(side)
    site = Site(bytes.fromhex(job["secret"]))
    kind, name = read_name(site, base64.b64decode(job["stored"] or b""), side, job.get("root", False))
    return {"result": kind, "name": base64.b64encode(name).decode()}


def job_seal(job):
    name, side = stored_name(Site(bytes.fromhex(job["secret"])), base64.b64decode(job["name"]))
    return {"result": "ok", "stored": base64.b64encode(name).decode(), "side": base64.b64encode(side or b"").decode()}


def job_target(job):
    target = read_target(Site(bytes.fromhex(job["secret"])), base64.b64decode(job["stored"] or b""))
    return {"result": "ok", "name": base64.b64encode(target).decode()}


def job_xattr(job):
    site = Site(bytes.fromhex(job["secret"]))
    name, value = read_xattr(site, base64.b64decode(job["stored"] or b""), base64.b64decode(job.get("value") or b""))
    return {"result": "ok", "name": base64.b64encode(name).decode(), "value": base64.b64encode(value).decode()}


JOBS = {"record": job_record, "code": job_code, "content": job_content, "name": job_name, "seal": job_seal, "target": job_target, "xattr": job_xattr}


def batch():
    out = []
    for job in json.load(sys.stdin):
        try:
            out.append(JOBS[job["do"]](job))
        except Corrupt as e:
            out.append({"result": "refused", "why": str(e)})
        except Unsupported as e:
            out.append({"result": "unsupported", "why": str(e)})
        except UnknownKey as e:
            out.append({"result": "unknown key", "why": str(e)})
    json.dump(out, sys.stdout)


class AnyKey(dict):
    """One content key for whatever id a file names."""

    def __contains__(self, key_id):
        return True

    def __missing__(self, key_id):
        return self["key"]


def cat(args):
    if args.site_secret:
        keys = Site.load(args.site_secret).content
    else:
        with open(args.key, encoding="ascii") as k:
            keys = AnyKey(key=bytes.fromhex(k.read()))
    with open(args.path, "rb") as stored:
        f = File(stored.read(), keys)
    for no in range(len(f.blocks)):
        sys.stdout.buffer.write(f.open(no))


def ls(args):
    site = Site.load(args.site_secret)
    directory = os.fsencode(args.path)
    for stored in sorted(os.listdir(directory)):
        side = None
        try:
            with open(os.path.join(directory, stored + b".n"), "rb") as f:
                side = f.read(272)
        except OSError:
            pass
        kind, name = read_name(site, stored, side, args.root)
        if kind != "hidden":
            sys.stdout.buffer.write(kind.encode() + b"\t" + stored + b"\t" + name + b"\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("verb", choices=["cat", "ls", "batch"])
    p.add_argument("path", nargs="?")
    p.add_argument("--key", help="file with a content key, 64 hex digits")
    p.add_argument("--site-secret", help="the site secret file")
    p.add_argument("--root", action="store_true", help="the directory is the root of the store")
    args = p.parse_args()
    try:
        {"cat": cat, "ls": ls, "batch": lambda _: batch()}[args.verb](args)
    except (Corrupt, Unsupported, UnknownKey) as e:
        sys.exit("%s: %s: %s" % (args.path, type(e).__name__.lower(), e))


if __name__ == "__main__":
    main()
