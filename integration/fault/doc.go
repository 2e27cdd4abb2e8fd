// Package fault lets the daemon's system calls on the store fail, one at a time, and looks at what the view makes of it:
// for every operation and every kind of error (EIO, ENOSPC, EDQUOT, EMFILE, EINTR, calls that do half of their work) the
// first call fails, then the second, and so on until the operation makes no more calls. The caller must get an error or
// the whole result; nothing that was there may change; no lock stays held; the same operation works when it is tried
// again; and the store is whole afterwards, also for the next daemon. The calls are caught by package trap.
//
// FAULTS=all is the long form: it lets every call of verbs and of what writes key records fail in every way, too. The short
// form, which every run of the tests does, has EIO of some of them, chosen at random.
package fault
