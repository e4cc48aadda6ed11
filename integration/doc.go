// Package integration tests the parts against real servers, one file per
// subject. See package servers for what they run on.
package integration
