package check

import (
	"slices"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
)

// Kind says what is wrong. Its values are stable: scripts compare them.
type Kind string

// The kinds of findings about entries of the view.
const (
	NameDamaged        Kind = "name-damaged"        // a stored name does not open (N9)
	NameUnsupported    Kind = "name-unsupported"    // a stored name of another format version (N9)
	SideMissing        Kind = "side-missing"        // the side entry of a long name is not there (N4)
	SideWrong          Kind = "side-wrong"          // the side entry of a long name is another's, or damaged (N4)
	SideOrphan         Kind = "side-orphan"         // a side entry without its entry (N5)
	LinkDamaged        Kind = "link-damaged"        // the target of a symbolic link does not open (N10)
	XAttrDamaged       Kind = "xattr-damaged"       // an extended attribute does not open (X1)
	HeaderDamaged      Kind = "header-damaged"      // the header of a file is none (C3)
	ContentUnsupported Kind = "content-unsupported" // a file of another format version (F1)
	BlockDamaged       Kind = "block-damaged"       // blocks of a file do not authenticate (C9)
	EndLost            Kind = "end-lost"            // a write-once file has no end (C7)
	Unfinished         Kind = "unfinished"          // the same, where messages are begun (tmp of a maildir)
	WrongUser          Kind = "wrong-user"          // a file under another user's key (C12)
	UnknownKey         Kind = "unknown-key"         // a file under a key that nobody has (C12)
	KeyUnusable        Kind = "key-unusable"        // a file under a key whose record is damaged
	PlainRefused       Kind = "plain-refused"       // a plain file of a user where plain files are refused
	Shadowed           Kind = "shadowed"            // an entry hidden by another one of the same view name (N8)
	MailboxHeader      Kind = "mailbox-header"      // a header that does not tell whose a mailbox is (M1)
	Unreadable         Kind = "unreadable"          // the lower filesystem gives an error
)

// The kinds of findings about messages of a manifest (FORMAT.md section 9).
const (
	MessageGone     Kind = "message-gone"     // there is no such message any more
	MessageReplaced Kind = "message-replaced" // something else, or an older state, has its name
)

// Leftover is what an interrupted conversion (N12) or write of a key record (K13) left.
const Leftover Kind = "leftover"

// The kinds of findings about key records.
const (
	StoreRecord       Kind = "store-record"       // the store record is damaged or missing (K12)
	RecordDamaged     Kind = "record-damaged"     // a user's record is damaged or missing (K10, K13)
	RecordUnsupported Kind = "record-unsupported" // a record of another format version (K9)
	DeliveryDamaged   Kind = "delivery-damaged"   // a delivery key is damaged (K11)
	DeliveryUnused    Kind = "delivery-unused"    // no file uses a delivery key any more
	RecordAccess      Kind = "record-access"      // wrong owner or mode of a key record (K7)
	Stray             Kind = "stray"              // something among the key records that is none
)

// The kinds of findings about the audit log.
const (
	AuditChanged     Kind = audit.Changed     // a line was changed or put in (L4)
	AuditRemoved     Kind = audit.Removed     // lines are missing (L4)
	AuditMoved       Kind = audit.Moved       // a line stands in a wrong place, or twice (L4)
	AuditCut         Kind = audit.Cut         // lines at the end are missing (L5)
	AuditUnreadable  Kind = audit.Unreadable  // the lower filesystem gives an error, or something that is no file
	AuditUnsupported Kind = audit.Unsupported // a segment of another format version (L3)
	AuditUnfinished  Kind = audit.Unfinished  // what an interrupted write left (L4)
	AuditNoted       Kind = audit.Noted       // losses of which the log itself tells (L7)
	AuditForeign     Kind = audit.Foreign     // a file that does not belong to the log
)

var informational = []Kind{SideOrphan, Unfinished, DeliveryUnused, Leftover, Stray, AuditUnfinished, AuditNoted, AuditForeign}

// Informational reports whether findings of this kind mean no damage.
func (k Kind) Informational() bool { return slices.Contains(informational, k) }

// Finding is one thing that was found. Paths are byte strings: make them safe before showing them.
type Finding struct {
	Kind   Kind    `json:"kind"`
	Damage bool    `json:"damage"`           // false: informational
	View   string  `json:"view,omitempty"`   // path in the view, as far as it can be told; none for key records
	Store  string  `json:"store"`            // path in the store
	User   string  `json:"user,omitempty"`   // whose it is, if anybody's
	Detail string  `json:"detail,omitempty"` // for people
	Blocks []int64 `json:"blocks,omitempty"` // first and last of the blocks concerned, from 0
}

// join appends a name to a path.
func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}
