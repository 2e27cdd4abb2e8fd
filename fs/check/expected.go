package check

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/check/manifest"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// ErrScope says that a manifest lists the messages of one user, who is not the one that is checked.
var ErrScope = errors.New("the manifest is of another user")

// fate is what became of a message of a manifest. Later values count more.
type fate uint8

const (
	missing  fate = iota // nothing like it was seen
	replaced             // something else of its name
	anew                 // the same, sealed anew under the user's present key
	present
)

// expected is a message of a manifest. It lists no other: strings are shared by messages of a folder.
type expected struct {
	user   account.User
	folder string
	name   string
	size   int64
	key    secret.ID
	fate   fate
	why    string
	next   int32 // another message of the same user and tag, or -1
}

type nameKey struct {
	user account.User
	tag  manifest.Tag
}

// Expected are the messages of a manifest, and what became of them. One is good for one Verify.
type Expected struct {
	head manifest.Head

	mu     sync.Mutex
	all    []expected
	bySalt map[[32]byte]int32
	byName map[nameKey]int32
	fresh  int64 // messages that the manifest does not know
}

// LoadManifest reads a manifest that was made with the same site secret. It takes about 200 bytes for each message. Errors:
// manifest.ErrCorrupt, manifest.ErrForeign, manifest.ErrUnsupported, secret.ErrWiped, those of r.
func LoadManifest(r io.Reader, keys *site.Keys) (*Expected, error) {
	x := &Expected{bySalt: map[[32]byte]int32{}, byName: map[nameKey]int32{}}
	var err error
	x.head, err = manifest.Read(r, keys.RecordMAC, func(e manifest.Entry) error {
		i := int32(len(x.all))
		k := nameKey{e.User, e.Tag}
		next, ok := x.byName[k]
		if !ok {
			next = -1
		}
		x.all = append(x.all, expected{user: e.User, folder: e.Folder, name: e.Name, size: e.Size, key: e.Key, next: next})
		x.byName[k], x.bySalt[e.Salt] = i, i
		return nil
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// ManifestSummary says what became of the messages of a manifest.
type ManifestSummary struct {
	Created  time.Time `json:"created"`
	Messages int64     `json:"messages"`    // listed, of whom was checked
	Present  int64     `json:"present"`     // the same files, wherever they are now
	Anew     int64     `json:"sealed_anew"` // under the user's present key
	Gone     int64     `json:"gone"`
	Replaced int64     `json:"replaced"`
	New      int64     `json:"new"` // not listed
}

// isMessage says whether the entries named name in p are messages that manifests list: not those still being delivered.
func (p place) isMessage(name string) bool {
	return p.route.Class(name) == route.Message && p.name != "tmp"
}

// list writes a message to the manifest that is being made.
func (r *run) list(j job, size int64, h *format.Header) error {
	tag, err := manifest.TagOf(j.name, r.o.Site.RecordMAC)
	if err != nil {
		return err
	}
	folder := strings.TrimPrefix(strings.TrimPrefix(j.at.store, r.o.Store), "/")
	r.listing.Lock()
	defer r.listing.Unlock()
	return r.o.WriteManifest.Add(manifest.Entry{
		User: j.at.user(), Folder: folder, Name: j.stored.Name, Tag: tag, Size: size, Key: secret.ID(h.KeyID), Salt: h.Salt,
	})
}

// compare notes what a file tells of the messages of the manifest. h is nil for a file without a header.
func (r *run) compare(j job, size int64, h *format.Header) error {
	x := r.o.Manifest
	tag, err := manifest.TagOf(j.name, r.o.Site.RecordMAC)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if h != nil {
		if i, ok := x.bySalt[h.Salt]; ok {
			x.all[i].become(present, "")
			return nil
		}
	}
	i, ok := x.byName[nameKey{j.at.user(), tag}]
	if !ok {
		x.fresh++
		return nil
	}
	for ; i >= 0; i = x.all[i].next {
		x.all[i].become(r.successor(&x.all[i], j, size, h))
	}
	return nil
}

func (e *expected) become(f fate, why string) {
	if f > e.fate {
		e.fate, e.why = f, why
	}
}

// successor judges a file that has the name of a listed message, but another salt (rule M5).
func (r *run) successor(e *expected, j job, size int64, h *format.Header) (fate, string) {
	path := join(j.at.view, j.name)
	switch {
	case h == nil && size == 0:
		return replaced, "its file is empty now: " + path
	case h == nil:
		return replaced, "a file that is not encrypted has its name: " + path
	case size != e.size:
		return replaced, fmt.Sprintf("a file of %d stored bytes has its name, it had %d: %s", size, e.size, path)
	case secret.ID(h.KeyID) == e.key:
		return replaced, "another file under the same key has its name: " + path
	case !r.keys.isCurrent(secret.ID(h.KeyID)):
		return replaced, "an older state of it was put back, or one under a key that is not in use: " + path
	}
	return anew, ""
}

// missed looks once more for messages that were not found: a mail server may have moved them meanwhile, from where the
// first look had not come yet to where it had been.
func (r *run) missed() error {
	x := r.o.Manifest
	if !x.anyMissing(r) {
		return nil
	}
	fresh := x.fresh
	o := r.o
	o.Progress, o.WriteManifest = nil, nil
	again, err := newRun(r.ctx, o, func(Finding) {})
	if err != nil {
		return err
	}
	defer again.close()
	again.glance, again.keys = true, r.keys
	err = again.files(nil)
	x.fresh = fresh
	return err
}

func (x *Expected) anyMissing(r *run) bool {
	for i := range x.all {
		if x.all[i].fate == missing && r.lists(&x.all[i]) {
			return true
		}
	}
	return false
}

// lists says whether a message is of those that were looked for.
func (r *run) lists(e *expected) bool { return r.o.User == "" || e.user == r.o.User }

// settle reports what became of the messages of the manifest, when all files were looked at.
func (r *run) settle() error {
	if err := r.missed(); err != nil {
		return err
	}
	x := r.o.Manifest
	s := ManifestSummary{Created: x.head.Created, New: x.fresh}
	for i := range x.all {
		e := &x.all[i]
		if !r.lists(e) {
			continue
		}
		s.Messages++
		switch e.fate {
		case present:
			s.Present++
		case anew:
			s.Anew++
		case replaced:
			s.Replaced++
			r.found(r.expectedFinding(e, MessageReplaced, e.why))
		case missing:
			s.Gone++
			r.found(r.expectedFinding(e, MessageGone, "the manifest lists it; its owner may have deleted it"))
		}
	}
	r.tally.add(func(sum *Summary) { sum.Manifest = &s })
	return nil
}

// expectedFinding names a message by the paths that the manifest tells. Long names cannot be told any more.
func (r *run) expectedFinding(e *expected, k Kind, detail string) Finding {
	f := Finding{Kind: k, View: r.o.View, Store: r.o.Store, User: string(e.user), Detail: detail}
	if f.View == "" {
		f.View = "/"
	}
	for i, stored := range append(strings.Split(e.folder, "/"), e.name) {
		if stored == "" {
			continue // the root
		}
		name, s := r.codec.Decode(stored, i == 0)
		if s.Long || s.Kind.Broken() || s.Kind == names.Hidden || name == "" {
			name = stored
		}
		f.View, f.Store = join(f.View, name), join(f.Store, stored)
	}
	return f
}
