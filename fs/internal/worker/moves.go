package worker

import "github.com/mailcryptfs/mailcryptfs/fs/internal/tree"

// followMoves looks at entries that were renamed or linked during the walk, which may
// have passed them by, until there are no more.
func (p *pass) followMoves(moves *tree.Moves) error {
	for names := moves.Take(); len(names) > 0; names = moves.Take() {
		if err := p.follow(names); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) follow(names []tree.Name) (err error) {
	for _, n := range names {
		before := p.links
		if err == nil {
			err = p.entry(n, true)
		}
		p.hold(n.Dir.ID, before)
	}
	return err
}

// entry converts one entry, with all below it first if it may be a directory.
func (p *pass) entry(n tree.Name, dir bool) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if dir {
		if err := p.walkChild(n.Dir, n.Name); err != nil {
			return err
		}
	}
	p.visit(n)
	return nil
}
