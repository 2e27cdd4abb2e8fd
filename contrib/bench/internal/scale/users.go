package scale

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// users enrols ever more users by their first logins, leaves a tenth unlocked, and starts the daemon anew with them.
func (r *run) users() error {
	ctx := context.Background()
	enrolled := 0
	for _, n := range r.Users {
		took, err := each(n-enrolled, func() error {
			for ; enrolled < n; enrolled++ {
				if err := r.site.Login(ctx, user(enrolled)); err != nil {
					return err
				}
				if enrolled%10 != 0 {
					if err := r.site.Lock(user(enrolled)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.note("first login and lock, one after the other", "users", "µs", n, took)
		if err := r.site.Stop(); err != nil {
			return err
		}
		start, err := r.site.Start()
		if err != nil {
			return err
		}
		r.note("start until logins are answered", "users", "ms", n, float64(start.Microseconds())/1000)
		if err := r.memory("users", n); err != nil {
			return err
		}
	}
	return nil
}

// logins lets users log in at a steady rate: first those who are unlocked, then those who are not.
func (r *run) logins() error {
	n := r.Users[len(r.Users)-1]
	for i := 0; i < n; i += 10 { // the daemon knows no password after its start, only what is derived from it
		if err := r.site.Login(context.Background(), user(i)); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		name string
		user func(i int) int
	}{
		{"login of an unlocked user", func(i int) int { return i * 10 % n }},
		{"login of a locked user", func(i int) int { return (i/9*10 + i%9 + 1) % n }},
	} {
		times, err := r.steady(c.user)
		if err != nil {
			return err
		}
		r.note(c.name+", median", "logins/s", "ms", r.Logins, percentile(times, 50))
		r.note(c.name+", 99th percentile", "logins/s", "ms", r.Logins, percentile(times, 99))
	}
	return r.memory("logins/s", r.Logins)
}

// steady begins a login at each tick, whether or not those before have ended.
func (r *run) steady(who func(i int) int) ([]time.Duration, error) {
	ctx := context.Background()
	total := int(float64(r.Logins) * r.Time.Seconds())
	times, errs := make([]time.Duration, total), make([]error, total)
	tick := time.NewTicker(time.Second / time.Duration(r.Logins))
	defer tick.Stop()
	var all sync.WaitGroup
	for i := range total {
		<-tick.C
		all.Go(func() {
			began := time.Now()
			errs[i] = r.site.Login(ctx, user(who(i)))
			times[i] = time.Since(began)
		})
	}
	all.Wait()
	slices.Sort(times)
	return times, errors.Join(errs...)
}

// percentile is the nearest-rank percentile of a sorted list, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	return float64(sorted[max(0, (len(sorted)*p+99)/100-1)].Microseconds()) / 1000
}
