/*
 * pam_mailcryptfs gives the password of a login that succeeded to the mailcryptfs daemon, which opens the mailbox with
 * it, and tells it of password changes. Frames: ../PROTOCOL.md (rules P1 to P13); use: pam_mailcryptfs(8).
 *
 * The auth phase only keeps the password; whichever of account, setcred and session comes first after success sends it,
 * once. All phases return PAM_IGNORE, which libpam never counts as a success; with the option "required" the later ones
 * may fail. No static state, no thread, no process, no signal handler, no cryptography.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#define DATA "mailcryptfs_password" /* name of the data kept in the handle */

enum { MAX_USER = 1024, MAX_SERVICE = 128, MAX_HOST = 255, MAX_PASSWORD = 1024 }; /* P7 */
enum { HEAD = 8, MAX_TEXT = 200, VERSION = 1, PAGE = 4096 };                      /* P5, P9 */
enum kind { LOGIN = 1, CHANGE = 2, RESET = 3 };                                   /* P6 */
enum status { OK = 0, NOT_ENROLLED = 1 };                                         /* P10 */

struct options { const char *socket; int timeout; /* milliseconds for one request */ bool debug, required; };
/* In a page of its own. One byte more than the limit shows that a password is too long. */
struct kept { bool done, failed; char password[MAX_PASSWORD + 2]; };
/* A field of a request. If cut, it may be empty, and what is over max bytes is left out. */
struct field { const char *bytes; size_t max; bool cut; };
struct answer { int status; char text[MAX_TEXT + 1]; };

static struct options parse(pam_handle_t *pamh, int argc, const char **argv)
{
	struct options o = {"/run/mailcryptfs/pam.sock", 10000, false, false};
	for (int i = 0; i < argc; i++) {
		char *end = NULL;
		long ms = strncmp(argv[i], "timeout=", 8) == 0 ? strtol(argv[i] + 8, &end, 10) : 0;
		if (end != NULL && *end == '\0' && ms >= 100 && ms <= 60000)
			o.timeout = (int)ms;
		else if (strncmp(argv[i], "socket=/", 8) == 0 && strlen(argv[i] + 7) < sizeof((struct sockaddr_un *)0)->sun_path)
			o.socket = argv[i] + 7;
		else if (strcmp(argv[i], "debug") == 0)
			o.debug = true;
		else if (strcmp(argv[i], "required") == 0)
			o.required = true;
		else
			pam_syslog(pamh, LOG_ERR, "option '%s' is unknown or out of range: ignored; see pam_mailcryptfs(8)", argv[i]);
	}
	return o;
}

/* Passwords lie in pages of their own: locked if the host's limit allows it, else only wiped; not in core dumps. */
static void *page_new(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	(void)mlock(p, PAGE);
	(void)madvise(p, PAGE, MADV_DONTDUMP);
	return p;
}

/* Wipes and frees a page; also the cleanup that libpam calls. */
static void forget(pam_handle_t *pamh, void *page, int status)
{
	(void)pamh, (void)status;
	if (page == NULL)
		return;
	explicit_bzero(page, PAGE);
	(void)munmap(page, PAGE);
}

/* Writes a request into a page; returns its length, 0 if a field breaks P7. */
static size_t encode(unsigned char *page, enum kind kind, const struct field *f, int n)
{
	size_t at = HEAD;
	for (int i = 0; i < n; i++) {
		size_t len = strnlen(f[i].bytes, f[i].max + 1);
		if (!f[i].cut && (len == 0 || len > f[i].max))
			return 0;
		len = len < f[i].max ? len : f[i].max;
		page[at++] = (unsigned char)(len >> 8);
		page[at++] = (unsigned char)len;
		memcpy(page + at, f[i].bytes, len);
		at += len;
	}
	const unsigned char head[HEAD] = {'m', 'c', 'p', 'r', VERSION, (unsigned char)kind,
		(unsigned char)((at - HEAD) >> 8), (unsigned char)(at - HEAD)};
	memcpy(page, head, HEAD);
	return at;
}

/* Reads an answer of got bytes: 1 if it is whole, 0 if more must come, -1 if it breaks P9. */
static int decode(const unsigned char *b, size_t got, struct answer *a)
{
	static const unsigned char magic[] = {'m', 'c', 'p', 'a', VERSION};
	if (memcmp(b, magic, got < sizeof magic ? got : sizeof magic) != 0)
		return -1;
	if (got < HEAD)
		return 0;
	size_t len = (size_t)b[6] << 8 | b[7];
	if (len > MAX_TEXT || got > HEAD + len)
		return -1;
	for (size_t i = HEAD; i < got; i++)
		if (b[i] < 0x20 || b[i] > 0x7e)
			return -1;
	if (got < HEAD + len)
		return 0;
	a->status = b[5];
	memcpy(a->text, b + HEAD, len);
	a->text[len] = '\0';
	return 1;
}

static int64_t now(void)
{
	struct timespec t = {0, 0};
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * After a failed call on fd: true if it should be tried again (because fd is ready, pause milliseconds have passed or a
 * signal came), false with errno if it failed for good or time is up.
 */
static bool again(int fd, short events, int pause, int64_t deadline)
{
	if (errno != EAGAIN && errno != EINTR)
		return false;
	int64_t left = deadline - now();
	if (left <= 0) {
		errno = ETIMEDOUT;
		return false;
	}
	struct pollfd p = {fd, events, 0};
	(void)poll(&p, 1, pause < left ? pause : (int)left);
	return true;
}

/* Connects fd to a daemon that root started (P1); false with errno. */
static bool dial(int fd, const char *path, int64_t deadline)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer = {0, 0, 0};
	socklen_t size = sizeof peer;
	memcpy(addr.sun_path, path, strlen(path));
	/* A full queue gives EAGAIN, and there is no event to wait for: a pause, then again. */
	while (connect(fd, (const struct sockaddr *)&addr, sizeof addr) != 0)
		if (!again(-1, 0, 10, deadline))
			return false;
	errno = EPERM;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

/* Sends a request of len bytes and reads the answer; false with errno. */
static bool exchange(int fd, const unsigned char *request, size_t len, struct answer *a, int64_t deadline)
{
	unsigned char b[HEAD + MAX_TEXT + 1];
	size_t sent = 0, got = 0;
	while (sent < len) {
		ssize_t n = send(fd, request + sent, len - sent, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		else if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			break; /* there may be an answer all the same (P4) */
		else if (!again(fd, POLLOUT, INT_MAX, deadline))
			return false;
	}
	for (;;) {
		ssize_t n = recv(fd, b + got, sizeof b - got, 0);
		if (n < 0 && again(fd, POLLIN, INT_MAX, deadline))
			continue;
		if (n < 0)
			return false;
		got += (size_t)n;
		int whole = decode(b, got, a);
		errno = EPROTO;
		if (n == 0 || whole != 0)
			return whole > 0;
	}
}

/* Sends one request and logs what the administrator should know; true if nothing is amiss. */
static bool deliver(pam_handle_t *pamh, const struct options *o, enum kind kind, const struct field *f, int n)
{
	const char *so = kind != LOGIN ? "the mail key keeps its old password: run 'mailcryptfs passwd'"
		: o->required ? "the login is refused" : "the login goes on, the mailbox may stay locked";
	int64_t deadline = now() + o->timeout;
	struct answer a = {-1, ""};
	unsigned char *page = page_new();
	size_t len = page != NULL ? encode(page, kind, f, n) : 0;
	int fd = page != NULL ? socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
	bool answered = fd >= 0 && len > 0 && dial(fd, o->socket, deadline) && exchange(fd, page, len, &a, deadline);
	int error = errno;
	if (fd >= 0)
		(void)close(fd);
	forget(pamh, page, 0);

	if (fd >= 0 && len == 0)
		pam_syslog(pamh, LOG_ERR, "user %.64s: name or password is empty or too long; %s", f[0].bytes, so);
	else if (!answered)
		pam_syslog(pamh, LOG_ERR, "user %.64s: %s: %s (limit %d ms); %s; see 'systemctl status mailcryptfs'",
			f[0].bytes, o->socket, strerror(error), o->timeout, so);
	else if (a.status > NOT_ENROLLED)
		pam_syslog(pamh, LOG_ERR, "user %.64s: %s (%d); %s", f[0].bytes, a.text, a.status, so);
	else if (o->debug)
		pam_syslog(pamh, LOG_DEBUG, "user %.64s: %s (%d)", f[0].bytes, a.status == OK ? "done" : a.text, a.status);
	return answered && a.status <= NOT_ENROLLED;
}

static const char *item(const pam_handle_t *pamh, int which)
{
	const void *value = NULL;
	return pam_get_item(pamh, which, &value) == PAM_SUCCESS && value != NULL ? value : "";
}

/* Sends the kept password, once for each that was kept; returns failure only with "required". */
static int act(pam_handle_t *pamh, int argc, const char **argv, int failure)
{
	struct options o = parse(pamh, argc, argv);
	const void *data = NULL;
	if (pam_get_data(pamh, DATA, &data) != PAM_SUCCESS || data == NULL) {
		if (o.required || o.debug)
			pam_syslog(pamh, LOG_NOTICE, "no password came with this login%s", o.required ? ": it is refused" : "");
		return o.required ? failure : PAM_IGNORE;
	}
	struct kept *k = (struct kept *)data;
	if (!k->done) {
		const struct field f[] = {{item(pamh, PAM_USER), MAX_USER, false}, {item(pamh, PAM_SERVICE), MAX_SERVICE, true},
			{item(pamh, PAM_RHOST), MAX_HOST, true}, {k->password, MAX_PASSWORD, false}};
		k->done = true;
		k->failed = !deliver(pamh, &o, LOGIN, f, 4);
		explicit_bzero(k->password, sizeof k->password);
	}
	return k->failed && o.required ? failure : PAM_IGNORE;
}

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	const char *token = item(pamh, PAM_AUTHTOK);
	struct kept *k = *token != '\0' ? page_new() : NULL;
	(void)flags, (void)argc, (void)argv;
	if (k != NULL)
		memcpy(k->password, token, strnlen(token, MAX_PASSWORD + 1));
	/* Also without a password: that of an earlier attempt must not survive. */
	if (pam_set_data(pamh, DATA, k, forget) != PAM_SUCCESS)
		forget(pamh, k, 0);
	return PAM_IGNORE;
}

int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return act(pamh, argc, argv, PAM_PERM_DENIED);
}

int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return (unsigned)flags & PAM_DELETE_CRED ? PAM_IGNORE : act(pamh, argc, argv, PAM_CRED_UNAVAIL);
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return act(pamh, argc, argv, PAM_SESSION_ERR);
}

int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_IGNORE;
}

int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	struct options o = parse(pamh, argc, argv);
	const struct field user = {item(pamh, PAM_USER), MAX_USER, false};
	const struct field new = {item(pamh, PAM_AUTHTOK), MAX_PASSWORD, false};
	const struct field old = {item(pamh, PAM_OLDAUTHTOK), MAX_PASSWORD, false};
	const struct field change[] = {user, old, new}, reset[] = {user, new};
	if (!((unsigned)flags & PAM_UPDATE_AUTHTOK) || *new.bytes == '\0')
		return PAM_IGNORE; /* the preliminary check, or a password was removed */
	bool done = *old.bytes != '\0' ? deliver(pamh, &o, CHANGE, change, 3) : deliver(pamh, &o, RESET, reset, 2);
	return !done && o.required ? PAM_AUTHTOK_ERR : PAM_IGNORE;
}
