package inode

import (
	"container/list"
	"sync"
)

// Cache bounds the descriptors that are open although nobody has the inode open.
// The one that was not used for longest is closed first, approximately: each
// gets a second chance if it was used since it was last looked at.
type Cache struct {
	limit int

	mu    sync.Mutex
	order *list.List
	at    map[*Inode]*idle
}

type idle struct {
	inode *Inode
	used  bool
	el    *list.Element
}

// NewCache returns a cache of at most limit descriptors; 0 keeps none.
func NewCache(limit int) *Cache {
	return &Cache{limit: limit, order: list.New(), at: map[*Inode]*idle{}}
}

func (c *Cache) enabled() bool { return c.limit > 0 }

// Len returns how many idle descriptors are open.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

func (c *Cache) add(n *Inode) {
	for _, victim := range c.insert(n) {
		// Apart: the caller may hold the lock of another inode.
		go victim.evict()
	}
}

func (c *Cache) insert(n *Inode) (victims []*Inode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.at[n]; e != nil {
		e.used = true
		return nil
	}
	e := &idle{inode: n}
	e.el = c.order.PushBack(e)
	c.at[n] = e
	for c.order.Len() > c.limit {
		old := c.order.Front().Value.(*idle)
		if old.used {
			old.used = false
			c.order.MoveToBack(old.el)
			continue
		}
		c.dropLocked(old)
		victims = append(victims, old.inode)
	}
	return victims
}

func (c *Cache) touch(n *Inode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.at[n]; e != nil {
		e.used = true
	}
}

func (c *Cache) remove(n *Inode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.at[n]; e != nil {
		c.dropLocked(e)
	}
}

func (c *Cache) dropLocked(e *idle) {
	c.order.Remove(e.el)
	delete(c.at, e.inode)
}
