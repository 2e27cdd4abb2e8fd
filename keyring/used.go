package keyring

import (
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// usedEvery is how often at most the use of a slot is written down: a login must not cost a write each time.
const usedEvery = 24 * time.Hour

// used notes that a slot opened the identity of the user. It is a convenience: what goes wrong is logged at the level of
// debugging and nothing else.
func (e *editor) used(rec *records.User, id slot.ID) {
	now := e.second()
	if last, ok := e.records.Used(rec.User)[id]; ok && now.Before(last.Add(usedEvery)) {
		return
	}
	if err := e.writeUsed(rec, id, now); err != nil {
		e.log.Debug("the use of a slot was not written down", "user", string(rec.User), "error", err)
	}
}

func (e *editor) writeUsed(rec *records.User, id slot.ID, now time.Time) error {
	home, err := e.records.Lock(rec.User, false)
	if err != nil {
		return err
	}
	defer home.Release()
	before := e.records.Used(rec.User)
	before[id] = now
	last := make(map[slot.ID]time.Time)
	for i := range rec.Slots {
		if at, ok := before[rec.Slots[i].ID]; ok {
			last[rec.Slots[i].ID] = at
		}
	}
	return home.SetUsed(last)
}

// infos describes the slots of a record.
func (e *editor) infos(rec *records.User) []SlotInfo {
	last := e.records.Used(rec.User)
	list := make([]SlotInfo, len(rec.Slots))
	for i := range rec.Slots {
		s := &rec.Slots[i]
		list[i] = SlotInfo{
			ID: s.ID, Kind: s.Kind, Label: s.Label, Created: s.Created, By: s.CreatedBy, Used: last[s.ID], Recipient: s.Recipient,
		}
	}
	return list
}
