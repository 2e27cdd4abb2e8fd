package control

import (
	"context"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Slots is the part of Service that changes how users' keys open. Methods own the secrets that they get and wipe them.
type Slots interface {
	// Passwd gives the user another login password. With a password as proof, the slot that it opens gets the new one.
	Passwd(ctx context.Context, user string, p Proof, new []byte) error
	// Slots lists the user's slots.
	Slots(ctx context.Context, user string) ([]Slot, error)
	// AddSlot makes a slot: for r.Password, or for a recovery code that is returned and kept by nobody.
	AddSlot(ctx context.Context, user string, p Proof, r NewSlot) (AddedSlot, error)
	// RevokeSlot removes a slot; the last one that can be used only with force.
	RevokeSlot(ctx context.Context, user, id string, force bool) error
	// Rotate gives the user a new content key, and with identity a new identity.
	Rotate(ctx context.Context, user string, identity bool) (Rotation, error)
	// Forget destroys everything that opens the user's mail.
	Forget(ctx context.Context, user string) (Forgotten, error)
	// Refresh takes notice of a key record that was changed without the daemon.
	Refresh(ctx context.Context, user string) error
	// Reload reads the configuration again, and takes over what can change while the daemon runs.
	Reload(ctx context.Context) (Reloaded, error)
	// Events returns the last things that happened to the user's key, logins left out, the latest last.
	Events(ctx context.Context, user string) ([]Event, error)
	// Survey says for every enrolled user, in the order of their names, what opens the mail if the passwords are lost.
	Survey(ctx context.Context) ([]Survey, error)
}

// Proof is what allows a change of a user's slots: one of its fields, or none if the user is unlocked.
type Proof struct {
	Password []byte // of any slot
	Code     []byte // the recovery code, as somebody typed it
	Key      []byte // identity file of a recovery key, as age writes it
}

// Empty reports whether nothing is shown.
func (p Proof) Empty() bool { return len(p.Password)+len(p.Code)+len(p.Key) == 0 }

// Wipe zeroes the secrets.
func (p Proof) Wipe() {
	secret.Wipe(p.Password)
	secret.Wipe(p.Code)
	secret.Wipe(p.Key)
}

// Slot is one way to open a user's key. Field names in JSON are stable.
type Slot struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"` // "password", "code" or "recovery"
	Label     string     `json:"label,omitempty"`
	Created   time.Time  `json:"created"`
	By        string     `json:"created_by,omitempty"`
	Used      *time.Time `json:"last_used,omitempty"` // to the day
	Recipient string     `json:"recipient,omitempty"` // of a recovery key
}

// NewSlot says what slot to make: one for a password, or without a password one for a recovery code.
type NewSlot struct {
	Label    string
	Password []byte
}

// AddedSlot is a slot that was made.
type AddedSlot struct {
	ID   string `json:"id"`
	Code []byte `json:"code,omitempty"` // the recovery code as text; the caller wipes it
}

// Rotation is a change of keys that has not ended. Field names in JSON are stable.
type Rotation struct {
	Started  time.Time `json:"started"`
	By       string    `json:"by,omitempty"`
	Identity bool      `json:"identity"`       // of the identity, too
	Pending  bool      `json:"pending"`        // the new identity is made at the next unlock
	Keys     int       `json:"old_keys"`       // still there
	Need     string    `json:"need,omitempty"` // what has to happen for it to go on
}

// Forgotten is the record of what was destroyed. Field names in JSON are stable.
type Forgotten struct {
	User         string    `json:"user"`
	Time         time.Time `json:"time"`
	By           string    `json:"by"`
	Slots        int       `json:"slots"`
	ContentKeys  int       `json:"content_keys"`
	DeliveryKeys int       `json:"delivery_keys"`
}

// Reloaded says what a reload has changed.
type Reloaded struct {
	Recovery   string   `json:"recovery"`
	Recipients int      `json:"recipients"`
	Restart    []string `json:"restart,omitempty"` // keys that have other values now, for which the daemon must be restarted
	Problem    string   `json:"problem,omitempty"` // why the site secret is not escrowed to the recovery keys
}

// Survey says what opens a user's mail if the passwords are lost. Field names in JSON are stable.
type Survey struct {
	User     string    `json:"user"`
	Codes    int       `json:"codes"`             // recovery codes
	Keys     int       `json:"recovery_keys"`     // configured recovery keys that open it
	Retired  int       `json:"retired,omitempty"` // recovery keys that open it although they are configured no more
	Missing  []string  `json:"missing,omitempty"` // configured recovery keys that do not open it yet, shortened
	NoWay    bool      `json:"no_way_back"`       // nothing but passwords opens it
	Rotation *Rotation `json:"rotation,omitempty"`
	Problem  string    `json:"problem,omitempty"`
}

// RecoveryStatus counts users by what opens their mail if the passwords are lost. Field names in JSON are stable.
type RecoveryStatus struct {
	Policy     string `json:"policy"`            // of the configuration
	Recipients int    `json:"recovery_keys"`     // that are configured
	Counted    int    `json:"counted"`           // users that were looked at since the start
	Missing    int    `json:"missing_key"`       // of these: who still miss a configured recovery key
	NoWay      int    `json:"no_way_back"`       // whose passwords are all that opens the mail
	Rotating   int    `json:"rotating"`          // whose keys are being changed
	Problems   int    `json:"problems"`          // whose record cannot be judged
	Problem    string `json:"problem,omitempty"` // why recovery keys could not be put to use
}

// Event is something that happened to a user's keys, from the audit log. Field names in JSON are stable.
type Event struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"`
	Cause  string    `json:"cause,omitempty"`
	By     string    `json:"by,omitempty"`
	Peer   string    `json:"peer,omitempty"`
	Detail string    `json:"detail,omitempty"`
}
