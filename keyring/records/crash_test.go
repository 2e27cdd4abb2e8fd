package records

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// recorded runs f and returns the steps of its writes.
func recorded(t *testing.T, d *Dir, f func() error) []string {
	t.Helper()
	var steps []string
	d.trace = func(step, name string) error {
		steps = append(steps, step+" "+name)
		return nil
	}
	defer func() { d.trace = nil }()
	must(t, f())
	return steps
}

// TestOrderOfSteps pins the order on which K11 and K13 rest.
func TestOrderOfSteps(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	replace := func(name string) []string {
		temp := "." + name + ".tmp"
		return []string{"create " + temp, "write " + temp, "sync " + temp, "rename " + name, "sync directory " + name}
	}
	mkdir := func(name string) []string { return []string{"mkdir " + name, "sync directory " + name} }

	got := recorded(t, d, func() error { create(t, d, goodUser(t, keys)); return nil })
	if want := slices.Concat(mkdir(alice.Escape()), replace(recordName)); !slices.Equal(got, want) {
		t.Errorf("create:\n%q\n%q", got, want)
	}
	got = recorded(t, d, func() error { return changeLabel(d, alice, "x") })
	if want := slices.Concat(replace(previousName), replace(recordName)); !slices.Equal(got, want) {
		t.Errorf("update:\n%q\n%q", got, want)
	}
	must(t, os.WriteFile(d.userPath(alice, tempOf(recordName)), nil, 0o600))
	got = recorded(t, d, func() error {
		return withHome(d, func(h *Home) error { return h.Purge(func(*User) error { return nil }) })
	})
	scrubbing := func(name string) []string { return append(replace(name), "scrub "+name) }
	temp := []string{"remove " + tempOf(recordName), "scrub " + tempOf(recordName)}
	if want := slices.Concat(temp, scrubbing(recordName), scrubbing(previousName)); !slices.Equal(got, want) {
		t.Errorf("purge:\n%q\n%q", got, want)
	}
	rec, err := ParseDelivery(loadVector(t, filepath.Join(vectorDir, "delivery-good")).record, keys.RecordMAC)
	must(t, err)
	got = recorded(t, d, func() error { return addDelivery(d, rec) })
	if want := slices.Concat(mkdir(deliveryName), replace(rec.ID.String()+".toml")); !slices.Equal(got, want) {
		t.Errorf("delivery:\n%q\n%q", got, want)
	}
	got = recorded(t, d, func() error { return forget(d) })
	destroy := func(name string) []string { return []string{"remove " + name, "scrub " + name} }
	id := rec.ID.String() + ".toml"
	want := slices.Concat(replace(forgottenName), destroy(recordName), destroy(previousName), []string{"sync directory " + recordName},
		destroy(id), []string{"sync directory " + deliveryName})
	if !slices.Equal(got, want) {
		t.Errorf("forget:\n%q\n%q", got, want)
	}
}

func withHome(d *Dir, f func(h *Home) error) error {
	h, err := d.Lock(alice, false)
	if err != nil {
		return err
	}
	defer h.Release()
	return f(h)
}

// forget is Forget, repeated until nothing is left.
func forget(d *Dir) error {
	return withHome(d, func(h *Home) error {
		_, err := h.Forget("root", begin)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
}

func addDelivery(d *Dir, rec *Delivery) error {
	h, err := d.Lock(rec.User, false)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.AddDelivery(rec)
}

// TestFailAtEveryStep lets the n-th step of each operation fail, for every n: what was readable before is readable
// still, or the new is, and trying again works.
func TestFailAtEveryStep(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	boom := errors.New("boom")
	delivery, err := ParseDelivery(loadVector(t, filepath.Join(vectorDir, "delivery-good")).record, keys.RecordMAC)
	must(t, err)
	createUser := func(d *Dir) error {
		h, err := d.Lock(alice, true)
		if err != nil {
			return err
		}
		defer h.Release()
		err = h.Create(goodUser(t, keys))
		if errors.Is(err, ErrExists) {
			return nil // the failure came after the rename
		}
		return err
	}
	operations := map[string]struct {
		prepare, run func(d *Dir) error
		check        func(t *testing.T, d *Dir)
	}{
		"create": {
			prepare: func(*Dir) error { return nil }, run: createUser,
			check: func(t *testing.T, d *Dir) {
				got, err := d.Read(alice)
				if !errors.Is(err, ErrNotFound) && (err != nil || got.Warning != nil) {
					t.Errorf("%v, %v", got.Warning, err)
				}
			},
		},
		"update": {
			prepare: func(d *Dir) error {
				if err := createUser(d); err != nil {
					return err
				}
				return changeLabel(d, alice, "before")
			},
			run: func(d *Dir) error { return changeLabel(d, alice, "after") },
			check: func(t *testing.T, d *Dir) {
				got, err := d.Read(alice)
				if err != nil || got.Warning != nil {
					t.Fatalf("%v, %v", got.Warning, err)
				}
				if l := got.Slots[0].Label; l != "before" && l != "after" {
					t.Errorf("label %q", l)
				}
			},
		},
		"delivery": {
			prepare: createUser,
			run:     func(d *Dir) error { return addDelivery(d, delivery) },
			check: func(t *testing.T, d *Dir) {
				if _, err := d.Delivery(alice, delivery.ID); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			},
		},
	}
	operations["purge"] = struct {
		prepare, run func(d *Dir) error
		check        func(t *testing.T, d *Dir)
	}{
		prepare: operations["update"].prepare,
		run: func(d *Dir) error {
			return withHome(d, func(h *Home) error {
				return h.Purge(func(rec *User) error { rec.Slots[0].Label = "after"; return nil })
			})
		},
		check: operations["update"].check,
	}
	operations["forget"] = struct {
		prepare, run func(d *Dir) error
		check        func(t *testing.T, d *Dir)
	}{
		prepare: func(d *Dir) error {
			if err := operations["update"].prepare(d); err != nil {
				return err
			}
			return addDelivery(d, delivery)
		},
		run: forget,
		check: func(t *testing.T, d *Dir) {
			_, gone := d.Forgotten(alice)
			got, err := d.Read(alice)
			switch {
			case errors.Is(gone, ErrNotFound) && err == nil && got.Warning == nil:
			case gone == nil && errors.Is(err, ErrNotFound):
			default:
				t.Errorf("%v, %v", gone, err)
			}
		},
	}
	operations["end of a rotation"] = struct {
		prepare, run func(d *Dir) error
		check        func(t *testing.T, d *Dir)
	}{
		prepare: func(d *Dir) error {
			if err := createUser(d); err != nil {
				return err
			}
			if err := addDelivery(d, delivery); err != nil {
				return err
			}
			return withHome(d, func(h *Home) error {
				return h.Update(func(rec *User) error {
					old := rec.ContentKeys[0]
					old.ID[0], old.State = old.ID[0]^1, Old
					rec.ContentKeys = append(rec.ContentKeys, old)
					rec.Rotation = &Rotation{Started: begin, By: "root"}
					return nil
				})
			})
		},
		run:   func(d *Dir) error { return endRotation(d, delivery.ID) },
		check: func(t *testing.T, d *Dir) { checkRotation(t, d, delivery.ID) },
	}
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				d := newDir(t, keys)
				must(t, op.prepare(d))
				left := n
				d.trace = func(string, string) error {
					if left--; left < 0 {
						return boom
					}
					return nil
				}
				err := op.run(d)
				d.trace = nil
				if err == nil {
					if n < 7 {
						t.Fatalf("only %d steps were tried", n)
					}
					return
				}
				if !errors.Is(err, boom) {
					t.Fatalf("step %d: %v", n, err)
				}
				op.check(t, d)
				must(t, op.run(d))
				op.check(t, d)
				for name := range snapshot(t, d, alice) {
					if name != recordName && name != previousName && name != forgottenName {
						t.Errorf("step %d left %s behind", n, name)
					}
				}
			}
		})
	}
}

// TestPurge looks for an old key in every block of the directory that a file may have left: by descriptors that were
// opened before.
func TestPurge(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	create(t, d, goodUser(t, keys))
	must(t, changeLabel(d, alice, "needle"))
	must(t, changeLabel(d, alice, "again needle"))
	delivery, err := ParseDelivery(loadVector(t, filepath.Join(vectorDir, "delivery-good")).record, keys.RecordMAC)
	must(t, err)
	must(t, addDelivery(d, delivery))
	var held []*os.File
	for _, name := range []string{recordName, previousName, filepath.Join(deliveryName, delivery.ID.String()+".toml")} {
		f, err := os.Open(d.userPath(alice, name))
		must(t, err)
		defer f.Close()
		held = append(held, f)
	}
	// A backup by a hard link stays whole.
	link := filepath.Join(t.TempDir(), "backup")
	must(t, os.Link(d.userPath(alice, previousName), link))
	must(t, withHome(d, func(h *Home) error {
		if err := h.Purge(func(rec *User) error { rec.Slots[0].Label = "clean"; return nil }); err != nil {
			return err
		}
		return h.DestroyDelivery(delivery.ID)
	}))
	for i, f := range held {
		b := make([]byte, 1<<20)
		n, _ := f.ReadAt(b, 0)
		if zero := n > 0 && !bytes.ContainsFunc(b[:n], func(r rune) bool { return r != 0 }); zero != (i != 1) {
			t.Errorf("file %d: %d bytes, overwritten %v", i, n, zero)
		}
	}
	if b := readFile(t, link); !bytes.Contains(b, []byte("needle")) {
		t.Error("the backup was overwritten")
	}
	for name, content := range snapshot(t, d, alice) {
		if bytes.Contains([]byte(content), []byte("needle")) {
			t.Errorf("%s has the old record", name)
		}
	}
	got, err := d.Read(alice)
	if err != nil || got.Warning != nil || got.Slots[0].Label != "clean" {
		t.Errorf("%v, %v", got.Warning, err)
	}
}

// endRotation does what ends a rotation, in the order of FORMAT.md K17.
func endRotation(d *Dir, retired secret.ID) error {
	return withHome(d, func(h *Home) error {
		rec, err := h.Read()
		if err != nil || rec.Rotation == nil {
			return err
		}
		err = h.Purge(func(rec *User) error {
			rec.ContentKeys = []ContentKey{*rec.Current()}
			return nil
		})
		if err == nil {
			err = h.DestroyDelivery(retired)
		}
		if err == nil {
			err = h.Update(func(rec *User) error { rec.Rotation = nil; return nil })
		}
		return err
	})
}

// checkRotation makes sure that a rotation is either under way, or over with nothing old left.
func checkRotation(t *testing.T, d *Dir, retired secret.ID) {
	t.Helper()
	rec, err := d.Read(alice)
	if err != nil || rec.Warning != nil {
		t.Fatalf("%v, %v", rec.Warning, err)
	}
	if rec.Rotation != nil {
		return
	}
	if _, err := d.Delivery(alice, retired); !errors.Is(err, ErrNotFound) {
		t.Errorf("the old delivery key: %v", err)
	}
	for name, b := range snapshot(t, d, alice) {
		if bytes.Contains(b, []byte(`state = "old"`)) {
			t.Errorf("%s has an old content key", name)
		}
	}
}
