// Package readme runs what README.md tells people to run: both set-up commands, the tour of verbs, and the configuration
// example. It holds nothing but tests.
package readme
