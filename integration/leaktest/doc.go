// Package leaktest runs the leak test of the binary for every profile and way of delivery, over every byte of a
// filesystem's image.
package leaktest
