// Package config reads the one configuration file of mailcryptfs.
//
// The file is TOML, flat, and judged strictly: an unknown key, a value of a wrong type or a value that cannot work is an
// error that names file, line, key, value and remedy. There is one struct, Config, and no other source of settings.
package config

import "time"

// DefaultPath is where every verb looks for the file unless --config says otherwise.
const DefaultPath = "/etc/mailcryptfs/mailcryptfs.toml"

// pamName is the file name of the PAM module's socket where the file does not give it: it then lies beside the control
// socket, so that two daemons never share one by accident.
const pamName = "pam.sock"

// Config is the whole configuration. The zero value is not useful: begin with Default.
type Config struct {
	Store          string        `toml:"store"`               // the encrypted tree; absolute path
	View           string        `toml:"view"`                // the mount point; absolute path
	Profile        string        `toml:"profile"`             // "maildir", "dovecot-maildir", "dovecot-sdbox" or "cyrus"
	User           string        `toml:"user"`                // template of a user's subtree below the view
	Private        []string      `toml:"private"`             // further name patterns of class private
	Meta           []string      `toml:"meta"`                // further name patterns of class meta
	Names          string        `toml:"names"`               // "encrypted" or "plain"
	Delivery       string        `toml:"delivery"`            // "sealed", "site" or "plaintext"
	Unenrolled     string        `toml:"unenrolled"`          // "site" or "plaintext"
	Plain          string        `toml:"plain"`               // "serve" or "refuse"
	Epoch          time.Duration `toml:"epoch"`               // life of a delivery key
	SiteSecret     string        `toml:"site_secret"`         // absolute path, "credential:NAME" or "ask"
	Keyring        string        `toml:"keyring"`             // memory-backed directory; absolute path
	Control        string        `toml:"control"`             // control socket; absolute path
	KDFMemoryKiB   uint32        `toml:"kdf_memory_kib"`      // Argon2id memory of new password slots, KiB
	KDFTime        uint32        `toml:"kdf_time"`            // Argon2id passes of new password slots
	KDFThreads     uint8         `toml:"kdf_threads"`         // Argon2id lanes of new password slots
	MaxDerivations int           `toml:"max_derivations"`     // Argon2id runs at one time
	XAttrs         bool          `toml:"xattrs"`              // serve extended attributes
	LockMemory     string        `toml:"lock_memory"`         // "require" or "warn"
	Cluster        bool          `toml:"cluster"`             // the store is shared by several hosts
	LogLevel       string        `toml:"log_level"`           // "debug", "info", "warn" or "error"
	PAM            string        `toml:"pam"`                 // socket of the PAM module; absolute path, or "" for none
	Enroll         string        `toml:"enroll"`              // "manual" or "auto"
	Recovery       string        `toml:"recovery"`            // "none", "optional" or "required"
	Recipients     []string      `toml:"recovery_recipients"` // public halves of recovery keys, as age writes them
	Grace          time.Duration `toml:"grace"`               // how long a user stays unlocked after the last session
	Idle           time.Duration `toml:"idle"`                // a private file opened within this time counts as use; 0: no
	SessionCap     time.Duration `toml:"session_cap"`         // nobody stays unlocked for longer; 0: no limit
	Anvil          string        `toml:"anvil"`               // Dovecot's anvil socket; absolute path, or "" for none
	CyrusProc      string        `toml:"cyrus_proc"`          // Cyrus' proc directory; absolute path, or "" for none
	WorkerFiles    int           `toml:"worker_files"`        // files converted per second; 0: no limit
	WorkerBytes    int           `toml:"worker_bytes"`        // bytes converted per second; 0: no limit
	WorkerUsers    int           `toml:"worker_users"`        // users converted at one time
}

// Default returns the settings that hold where the file says nothing. Each call returns a value of its own.
func Default() Config {
	return Config{
		Store:          "/var/lib/mailcryptfs/store",
		View:           "/srv/mail",
		Profile:        "maildir",
		User:           "%u",
		Private:        []string{},
		Meta:           []string{},
		Names:          "encrypted",
		Delivery:       "sealed",
		Unenrolled:     "site",
		Plain:          "serve",
		Epoch:          10 * time.Minute,
		SiteSecret:     "/etc/mailcryptfs/site.secret",
		Keyring:        "/run/mailcryptfs/keyring",
		Control:        "/run/mailcryptfs/control.sock",
		KDFMemoryKiB:   64 * 1024,
		KDFTime:        3,
		KDFThreads:     1,
		MaxDerivations: 4,
		XAttrs:         false,
		LockMemory:     "require",
		LogLevel:       "info",
		PAM:            "/run/mailcryptfs/" + pamName,
		Enroll:         "manual",
		Recovery:       "none",
		Recipients:     []string{},
		Grace:          time.Minute,
		WorkerUsers:    2,
	}
}
