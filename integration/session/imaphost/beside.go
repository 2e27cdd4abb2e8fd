package imaphost

// Beside is the configuration of a Dovecot that runs beside the system's, and takes IMAP and LMTP on Unix sockets alone:
// @dir@ stands for its own directory.
const Beside = `
base_dir = @dir@/run
state_dir = @dir@/state
log_path = @dir@/log
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
hostname = mx.example.org
postmaster_address = postmaster@example.org
# Sizes of messages have to be the same in every run.
lmtp_add_received_header = no
mail_max_userip_connections = 100
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = 0
  }
  unix_listener imap {
    mode = 0600
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0600
  }
}
`
