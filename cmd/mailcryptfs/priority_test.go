package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestInBackground(t *testing.T) {
	if err := inBackground(func() error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an error came back as %v", err)
	}
	err := inBackground(func() error { panic("index out of range") })
	if err == nil || !strings.Contains(err.Error(), "index out of range") || !strings.Contains(err.Error(), "priority_test.go") {
		t.Errorf("a panic came back as %v", err)
	}
}
