package check

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/former"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

var (
	errPlainHeader  = errors.New("it is not encrypted where plain = \"refuse\"")
	errOtherMailbox = errors.New("it names another mailbox than its directory")
)

// identify tells whose the open directory p is where only the header in it does (M1). A header that does not count is
// reported; the directory is nobody's then, as in the view.
func (r *run) identify(p place) place {
	p, bad := r.mailbox(p)
	if bad != nil {
		r.found(*bad)
	}
	return p
}

// mailbox is identify without the report.
func (r *run) mailbox(p place) (place, *Finding) {
	if p.adrift || !p.route.Box() {
		return p, nil
	}
	for try := 0; ; try++ {
		s, ok := r.candidate(p, route.HeaderName)
		if !ok {
			return p, nil
		}
		h, err := r.header(p, s)
		if isGone(err) { // converted meanwhile, or removed with the mailbox
			if try == again || !r.pause() {
				return p, nil
			}
			continue
		}
		if err == nil && h.ID != p.name {
			err = errOtherMailbox
		}
		if err != nil {
			f := p.finding(route.HeaderName, s.Name)
			f.Kind, f.Detail = MailboxHeader, "it does not tell whose mailbox this is: "+err.Error()
			return p, &f
		}
		p.route = p.route.As(&route.Mailbox{Name: h.Name, Former: r.former(h.ID)})
		return p, nil
	}
}

// handedOver reads the header of a mailbox again, and makes p what it tells now. It returns whether that differs: the
// mailbox may have changed hands, or got its header, since p was identified.
func (r *run) handedOver(p *place) bool {
	now, bad := r.mailbox(*p)
	if bad != nil || now.user() == p.user() && slices.Equal(now.route.Former(), p.route.Former()) {
		return false
	}
	*p = now
	return true
}

func (r *run) header(p place, s names.Stored) (route.Header, error) {
	f, err := p.dir.Open(s.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return route.Header{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return route.Header{}, err
	}
	if st.Type() != unix.S_IFREG {
		return route.Header{}, errNotRegular
	}
	size, read := st.Size, f.ReadAt
	switch {
	case s.Kind.Sealed():
		c, err := content.Open(f, st.Size, siteKeys{r.o.Site})
		if err != nil {
			return route.Header{}, err
		}
		size, read = c.Size(), c.ReadAt
	case r.o.RefusePlain:
		return route.Header{}, errPlainHeader
	}
	b := make([]byte, min(size, route.MaxHeader))
	n, err := read(b, 0)
	if err != nil {
		return route.Header{}, err
	}
	return route.ParseHeader(b[:n])
}

// siteKeys implements content.Keys for files of the site.
type siteKeys struct{ site *site.Keys }

// New implements content.Keys: nothing is written here.
func (siteKeys) New() (format.Header, *seal.FileKey, error) {
	return format.Header{}, nil, secret.ErrUnknownKey
}

// Open implements content.Keys.
func (k siteKeys) Open(h *format.Header) (*seal.FileKey, error) {
	switch secret.ID(h.KeyID) {
	case k.site.Meta.ID:
		return seal.NewFileKey(k.site.Meta.Key, h)
	case k.site.Delivery.ID:
		return seal.NewFileKey(k.site.Delivery.Key, h)
	}
	return nil, secret.ErrUnknownKey
}

// former returns whose mailbox id was before; what is wrong with its record is found among the key records.
func (r *run) former(id string) []account.User {
	name, ok := former.FileName(id)
	if !ok {
		return nil
	}
	keys, err := r.root.OpenDir(names.KeyDir)
	if err != nil {
		return nil
	}
	defer keys.Release()
	dir, err := keys.OpenDir(former.DirName)
	if err != nil {
		return nil
	}
	defer dir.Release()
	users, err := parseFile(dir, name, r.o.Site.RecordMAC, formerOf(id))
	if err != nil {
		return nil
	}
	return users
}

// formerOf parses the record of mailbox id.
func formerOf(id string) parser[[]account.User] {
	return func(b []byte, mac *secret.Key) ([]account.User, error) { return former.Parse(b, id, mac) }
}

// formerOwner returns whose key id is if that user had the directory p before.
func (r *run) formerOwner(p place, id secret.ID) (account.User, bool) {
	was := p.route.Former()
	if len(was) == 0 || p.adrift {
		return "", false
	}
	owner, known := r.keys.use(id)
	for i := 0; !known && i < len(was); i++ {
		r.readLate(was[i])
		owner, known = r.keys.use(id)
	}
	return owner, known && slices.Contains(was, owner)
}

// mailboxes checks the records of former owners of mailboxes (M1).
func (k *recordsRun) mailboxes(root *backing.Dir, path string) error {
	dir, err := k.openDir(root, former.DirName, path, "")
	if err != nil {
		k.unreadable(Finding{Store: path}, err)
		return nil
	}
	defer dir.Release()
	return k.list(dir, path, "", func(name string) error {
		id, ok := former.ID(name)
		if !ok {
			k.other(path, name, "")
			return nil
		}
		_, err := read(k, dir, name, join(path, name), "", formerOf(id))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			k.found(Finding{Kind: RecordDamaged, Store: join(path, name), Detail: reason(err)})
		}
		return nil
	})
}
