package control

import (
	"context"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const (
	pathPing    = "/v1/ping"
	pathSlots   = "/v1/slots"
	pathAdd     = "/v1/slots/add"
	pathRevoke  = "/v1/slots/revoke"
	pathRotate  = "/v1/rotate"
	pathForget  = "/v1/forget"
	pathRefresh = "/v1/refresh"
	pathReload  = "/v1/reload"
	pathEvents  = "/v1/events"
	pathSurvey  = "/v1/survey"
)

func about(user string, p Proof) request {
	return request{User: []byte(user), Old: p.Password, Code: p.Code, Key: p.Key}
}

// Ping tells whether a daemon answers this user.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.call(ctx, pathPing, request{})
	return err
}

// Passwd gives the user another login password, and wipes all secrets.
func (c *Client) Passwd(ctx context.Context, user string, p Proof, new []byte) error {
	req := about(user, p)
	req.Password = new
	_, err := c.call(ctx, pathPasswd, req)
	return err
}

// Slots lists the slots of the user.
func (c *Client) Slots(ctx context.Context, user string) ([]Slot, error) {
	a, err := c.call(ctx, pathSlots, about(user, Proof{}))
	return a.Slots, err
}

// AddSlot makes a slot, and wipes all secrets. The caller wipes the code of the answer.
func (c *Client) AddSlot(ctx context.Context, user string, p Proof, r NewSlot) (AddedSlot, error) {
	req := about(user, p)
	req.Password, req.Label = r.Password, r.Label
	a, err := c.call(ctx, pathAdd, req)
	if err == nil && a.Added == nil {
		err = errAnswer
	}
	if err != nil {
		return AddedSlot{}, err
	}
	return *a.Added, nil
}

// RevokeSlot removes a slot.
func (c *Client) RevokeSlot(ctx context.Context, user, id string, force bool) error {
	req := about(user, Proof{})
	req.Slot, req.Force = id, force
	_, err := c.call(ctx, pathRevoke, req)
	return err
}

// Rotate begins a change of the user's keys.
func (c *Client) Rotate(ctx context.Context, user string, identity bool) (Rotation, error) {
	req := about(user, Proof{})
	req.Identity = identity
	a, err := c.call(ctx, pathRotate, req)
	if err == nil && a.Rotation == nil {
		err = errAnswer
	}
	if err != nil {
		return Rotation{}, err
	}
	return *a.Rotation, nil
}

// Forget destroys everything that opens the user's mail.
func (c *Client) Forget(ctx context.Context, user string) (Forgotten, error) {
	a, err := c.call(ctx, pathForget, about(user, Proof{}))
	if err == nil && a.Forgotten == nil {
		err = errAnswer
	}
	if err != nil {
		return Forgotten{}, err
	}
	return *a.Forgotten, nil
}

// Refresh tells the daemon that the user's key record was changed without it.
func (c *Client) Refresh(ctx context.Context, user string) error {
	_, err := c.call(ctx, pathRefresh, about(user, Proof{}))
	return err
}

// Reload has the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	a, err := c.call(ctx, pathReload, request{})
	if err == nil && a.Reloaded == nil {
		err = errAnswer
	}
	if err != nil {
		return Reloaded{}, err
	}
	return *a.Reloaded, nil
}

// Events asks what happened to the user's key.
func (c *Client) Events(ctx context.Context, user string) ([]Event, error) {
	a, err := c.call(ctx, pathEvents, about(user, Proof{}))
	return a.Events, err
}

// Survey asks who has a way back.
func (c *Client) Survey(ctx context.Context) ([]Survey, error) {
	a, err := c.call(ctx, pathSurvey, request{})
	return a.Survey, err
}

// wipe zeroes every secret of a request.
func (r *request) wipe() {
	secret.Wipe(r.Password)
	secret.Wipe(r.Old)
	secret.Wipe(r.Code)
	secret.Wipe(r.Key)
}
