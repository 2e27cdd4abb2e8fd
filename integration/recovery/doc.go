// Package recovery tests what happens to keys over the years: passwords that change, get lost and leak, recovery codes and
// keys, rotation, and forgetting; with the daemon and without it, on this machine and on another one.
package recovery
