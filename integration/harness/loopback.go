package harness

import (
	"fmt"
	"math/rand/v2"
)

// Loopback is an address of the loopback network (RFC 6890) for the servers of one test. On an address of its own every port
// is free: none has to be looked for, which somebody else may have by the time that the server asks for it.
func Loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), 1+rand.IntN(254), 1+rand.IntN(254))
}
