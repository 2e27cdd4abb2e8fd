package pattern

import "errors"

func deliveries() []Pattern {
	return []Pattern{
		{
			Name: "deliver-fsync", Doc: "create in tmp/, write 4–50 KiB, fsync, close, rename into new/",
			MinOps: 32, MaxOps: 1000, Workers: Parallel(), Deliver: true, Goals: map[int]float64{1: 0.65, 16: 0.40},
			Start: func(b *Box, n int) (*Run, error) { return deliver(b, n, true) },
		},
		{
			Name: "deliver", Doc: "the same without fsync",
			MinOps: 64, MaxOps: 3000, Workers: Parallel(), Deliver: true, Goals: map[int]float64{1: 0.14, 16: 0.13},
			Start: func(b *Box, n int) (*Run, error) { return deliver(b, n, false) },
		},
	}
}

func deliver(b *Box, n int, sync bool) (*Run, error) {
	type message struct {
		tmp, final string
		body       []byte
	}
	messages := make([]message, n)
	for i := range messages {
		size := b.anySize()
		name := messageName(i, size)
		messages[i] = message{b.path("tmp", name), b.path("new", name), b.message(size)}
	}
	op := func(i int) error {
		m := &messages[i]
		if err := create(m.tmp, m.body, sync); err != nil {
			return err
		}
		return rename(m.tmp, m.final)
	}
	finish := func() error {
		var err error
		for i := 0; i < n; i += 1 + n/8 {
			err = errors.Join(err, expectSize(messages[i].final, int64(len(messages[i].body))))
		}
		return errors.Join(err, clear(b.path("tmp"), 0), clear(b.path("new"), n))
	}
	return &Run{op, finish}, nil
}
