package unlock

import (
	"bytes"
	"testing"
)

func TestPagesAreWiped(t *testing.T) {
	p, err := newPages(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	a, b := p.take(), p.take()
	if p.take() != nil {
		t.Error("a third page of two")
	}
	copy(a, "secret")
	copy(b[pageSize-6:], "secret")
	p.give(a)
	p.give(b)
	for range 2 {
		if page := p.take(); !bytes.Equal(page, make([]byte, pageSize)) {
			t.Error("a page comes back with something in it")
		}
	}
}
