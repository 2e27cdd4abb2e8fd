package node

import (
	"sync"
	"sync/atomic"
)

// counters count requests by their name in lower case.
type counters struct{ m sync.Map }

func (c *counters) add(name string) {
	v, ok := c.m.Load(name)
	if !ok {
		v, _ = c.m.LoadOrStore(name, new(atomic.Int64))
	}
	v.(*atomic.Int64).Add(1)
}

// Counts returns how many requests of each kind have been served.
func (fs *FS) Counts() map[string]int64 {
	out := map[string]int64{}
	fs.counts.m.Range(func(k, v any) bool {
		out[k.(string)] = v.(*atomic.Int64).Load()
		return true
	})
	return out
}
