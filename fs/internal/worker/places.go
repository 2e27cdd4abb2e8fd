package worker

import (
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
)

// places walks all directories of the user, and mailboxes that were the user's.
func (p *pass) places() error {
	places, former, err := p.tree.Places(p.ctx, p.user)
	if err != nil {
		return err
	}
	moves := p.tree.WatchMoves(p.user)
	defer moves.Close()
	err = p.through(places, func() error { return p.followMoves(moves) })
	if err == nil && p.goal == tree.Encrypt {
		p.goal, p.whole, p.linked = tree.HandOver, false, map[link][]tree.Name{}
		err = p.through(former, func() error { return nil })
	}
	if err != nil {
		return err
	}
	return p.settle(append(places, former...))
}

// through walks directories, does the rest, and converts files with several links at
// the end: these may lead from one directory to another.
func (p *pass) through(places [][]string, rest func() error) error {
	for _, path := range places {
		if err := p.descend(p.tree.Table.Root, path); err != nil {
			return err
		}
	}
	if err := rest(); err != nil {
		return err
	}
	p.convertLinked()
	return nil
}

// settle removes what says that mailboxes had another owner, where that matters no
// longer.
func (p *pass) settle(places [][]string) error {
	if p.dry || !p.tree.Policy.Structured() {
		return nil
	}
	for _, path := range places {
		err := p.tree.Visit(path, func(n *inode.Inode) error {
			p.tree.Settle(n)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) release() {
	for _, id := range p.held {
		p.tree.Forget(id, 1)
	}
}

// descend follows path from directory n to the root of the user's tree. The
// directories on the way belong to several users and get their names last.
func (p *pass) descend(n *inode.Inode, path []string) error {
	node, err := p.tree.Lookup(n, path[0])
	if err != nil && p.passed(err) {
		return nil // no mail yet
	}
	if err != nil {
		return err
	}
	defer p.hold(node.ID, p.links)
	if node.Type != unix.S_IFDIR {
		return nil
	}
	if len(path) > 1 {
		err = p.descend(node.Inode, path[1:])
	} else {
		err = p.walk(node.Inode)
	}
	if err == nil {
		p.visit(tree.Name{Dir: n, Name: path[0]})
	}
	return err
}
