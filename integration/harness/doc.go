// Package harness runs the real mailcryptfs binary for black-box tests: it builds it, gives it a store, a keyring
// directory and a view of its own, speaks to it by its command line alone, watches its log, kills and restarts it, and
// removes everything afterwards.
//
// A test binary hands its TestMain to [Main]. Main starts the binary once more in a mount namespace of its own, with a
// tmpfs as its temporary directory, so that no mount, process or file outlives the tests, however they end. The tests
// need root: they mount.
//
// A test that needs several processes runs functions of its own binary as children (see [Spawn]); these can take another
// uid, and talk with the test by lines.
package harness
