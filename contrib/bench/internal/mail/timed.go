package mail

import (
	"errors"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
)

// timed runs f in so many goroutines; each reports the time that every operation took.
func (s *Server) timed(workers int, f func(worker int, took func(time.Duration)) error) (measure.Sample, error) {
	times, errs := make([][]time.Duration, workers), make([]error, workers)
	cpu := measure.CPUTime(s.Target.Daemon)
	began := time.Now()
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			errs[i] = f(i, func(d time.Duration) { times[i] = append(times[i], d) })
		})
	}
	all.Wait()
	sample := measure.NewSample(time.Since(began), times)
	if sample.Ops > 0 {
		sample.DaemonCPU = float64((measure.CPUTime(s.Target.Daemon) - cpu).Microseconds()) / float64(sample.Ops)
	}
	return sample, errors.Join(errs...)
}
