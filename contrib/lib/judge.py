"""Judges the output of `go test -json`: prints the output of every failed test, and one line per package.

usage: judge.py ALLOWED_SKIPS TESTS.json SUMMARY

It fails if a test failed, if a package did not build, if nothing was tested at all, or if a test was skipped that
ALLOWED_SKIPS does not name. That file has one "package test reason" per line. SUMMARY gets one line of figures.
"""

import json
import sys


def allowed_skips(path):
    allowed = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.split("#")[0].strip()
            if line:
                package, test, reason = line.split(None, 2)
                allowed[package, test] = reason
    return allowed


def judge(events, allowed):
    output, failures, skips, packages, passed = {}, [], [], [], 0
    for event in events:
        action = event.get("Action")
        key = (event.get("Package") or event.get("ImportPath"), event.get("Test"))
        if action in ("output", "build-output"):
            output.setdefault(key, []).append(event["Output"])
            continue
        if action == "pass" and key[1]:
            passed += 1
            output.pop(key, None)
        elif action == "skip" and key[1] and key not in allowed:
            skips.append(key)
        elif action in ("fail", "build-fail"):
            failures.append(key)
        if action in ("pass", "fail") and not key[1]:
            packages.append((key[0], action, event.get("Elapsed", 0)))
    return output, failures, skips, packages, passed


def events(path):
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                print(line, end="")


def main():
    allowed = allowed_skips(sys.argv[1])
    output, failures, skips, packages, passed = judge(events(sys.argv[2]), allowed)
    for package, action, seconds in sorted(packages):
        print(f"{'ok  ' if action == 'pass' else 'FAIL'} {package} {seconds:.1f}s")
    for package, test in failures:
        text = "".join(output.get((package, test), []))
        if test or text.strip():
            print(f"\n--- failed: {package} {test or ''}\n{text[-20000:]}")
    for package, test in skips:
        print(f"\n--- skipped: {package} {test}\n{''.join(output.get((package, test), []))}")
    with open(sys.argv[3], "w", encoding="utf-8") as summary:
        summary.write(f"{passed} tests in {len(packages)} packages, none skipped\n")
    if not packages or not passed:
        print("nothing was tested")
        return 1
    return 1 if failures or skips else 0


sys.exit(main())
