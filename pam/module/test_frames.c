/*
 * Checks the encoder and the decoder of the module against the golden frames
 * that the Go half is checked against, and the exchange with a daemon that is
 * slow, silent or gone, while signals interrupt it: test_frames DIRECTORY.
 */
#include "pam_mailcryptfs.c"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { WORDS = 8 };

static int failures;

static void fail(const char *what, const char *line)
{
	fprintf(stderr, "%s: %.80s\n", what, line);
	failures++;
}

/* Turns a word of hex ("-": empty) into bytes and a terminator; the length, or -1. */
static long unhex(const char *word, unsigned char *out, size_t max)
{
	size_t n = 0;
	if (strcmp(word, "-") == 0)
		word = "";
	for (; word[0] != '\0' && word[1] != '\0'; word += 2) {
		unsigned value = 0;
		if (n >= max || sscanf(word, "%2x", &value) != 1)
			return -1;
		out[n++] = (unsigned char)value;
	}
	out[n] = '\0';
	return (long)n;
}

/* Splits a line at spaces; returns the number of words. */
static int split(char *line, char *word[WORDS])
{
	int n = 0;
	char *rest = NULL;
	for (char *w = strtok_r(line, " \n", &rest); w != NULL && n < WORDS; w = strtok_r(NULL, " \n", &rest))
		word[n++] = w;
	return n;
}

static void request(char *word[WORDS], int n)
{
	static const bool cut[][4] = {[LOGIN] = {false, true, true, false}, [CHANGE] = {false}, [RESET] = {false}};
	static const size_t max[][4] = {[LOGIN] = {MAX_USER, MAX_SERVICE, MAX_HOST, MAX_PASSWORD},
		[CHANGE] = {MAX_USER, MAX_PASSWORD, MAX_PASSWORD}, [RESET] = {MAX_USER, MAX_PASSWORD}};
	unsigned char value[4][2048], want[PAGE + 1];
	struct field f[4];
	int kind = atoi(word[0]);
	for (int i = 0; i < n - 3; i++) {
		if (unhex(word[i + 1], value[i], sizeof value[i] - 1) < 0)
			fail("not hex", word[i + 1]);
		f[i] = (struct field){(const char *)value[i], max[kind][i], cut[kind][i]};
	}
	long len = unhex(word[n - 1], want, PAGE);
	unsigned char *page = page_new();
	if (page == NULL || encode(page, (enum kind)kind, f, n - 3) != (size_t)len || memcmp(page, want, (size_t)len) != 0)
		fail("encoded otherwise", word[n - 1]);
	forget(NULL, page, 0);
}

static void answer(char *word[WORDS], int n)
{
	unsigned char frame[PAGE + 1], text[PAGE + 1];
	long len = unhex(word[n - 1], frame, PAGE);
	struct answer a = {-1, ""};
	(void)unhex(word[1], text, PAGE);
	for (long i = 0; i < len; i++)
		if (decode(frame, (size_t)i, &a) != 0)
			fail("a part is taken as whole", word[n - 1]);
	if (decode(frame, (size_t)len, &a) != 1 || a.status != atoi(word[0]) || strcmp(a.text, (const char *)text) != 0)
		fail("decoded otherwise", word[n - 1]);
	frame[len] = 'x';
	if (decode(frame, (size_t)len + 1, &a) != -1)
		fail("a byte too many is taken", word[n - 1]);
}

static void file(const char *dir, const char *name, void (*check)(char *word[WORDS], int n), int least)
{
	char path[4096], *line = NULL, *word[WORDS];
	size_t size = 0;
	int lines = 0;
	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *in = fopen(path, "r");
	while (in != NULL && getline(&line, &size, in) > 0) {
		int n = line[0] == '#' ? 0 : split(line, word);
		if (n >= 4) {
			check(word, n);
			lines++;
		}
	}
	if (lines < least)
		fail("too few golden frames", path);
	free(line);
	if (in != NULL)
		(void)fclose(in);
}

static void limits(void)
{
	static char big[2000];
	unsigned char *page = page_new();
	if (page == NULL) {
		fail("no memory", "");
		return;
	}
	memset(big, 'x', sizeof big - 1);
	const struct field refused[][2] = {
		{{big, MAX_USER, false}, {"p", MAX_PASSWORD, false}}, {{"u", MAX_USER, false}, {big, MAX_PASSWORD, false}},
		{{"", MAX_USER, false}, {"p", MAX_PASSWORD, false}}, {{"u", MAX_USER, false}, {"", MAX_PASSWORD, false}}};
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (encode(page, RESET, refused[i], 2) != 0)
			fail("a field that breaks P7 is sent", refused[i][0].bytes);
	const struct field shortened[] = {{"u", MAX_USER, false}, {big, MAX_SERVICE, true}, {big, MAX_HOST, true},
		{"p", MAX_PASSWORD, false}};
	if (encode(page, LOGIN, shortened, 4) != HEAD + 4 * 2 + 1 + MAX_SERVICE + MAX_HOST + 1)
		fail("service and host are not cut", "");
	forget(NULL, page, 0);

	static const char *const broken[] = {"mcpr\1\0\0", "mcpa\2\0\0", "mcpa\1\0\1", "mcpa\1\0\0\311"};
	struct answer a;
	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
		if (decode((const unsigned char *)broken[i], HEAD, &a) != -1)
			fail("a broken answer is taken", broken[i]);
	if (decode((const unsigned char *)"mcpa\1\0\0\1\n", HEAD + 1, &a) != -1)
		fail("a newline is taken", "");
}

static void interrupted(int signal)
{
	(void)signal;
}

/* What the other end does in a process of its own; it sends text, byte by byte if slow. */
struct peer { const char *name; const char *text; size_t len; bool reads, slow, stays, ok; int error; };

static void play(int fd, const struct peer *p)
{
	char request[64];
	if (p->reads)
		(void)!recv(fd, request, sizeof request, 0);
	for (size_t i = 0; i < p->len; i += p->slow ? 1 : p->len) {
		(void)!send(fd, p->text + i, p->slow ? 1 : p->len, MSG_NOSIGNAL);
		(void)poll(NULL, 0, p->slow ? 4 : 0);
	}
	if (p->stays)
		(void)poll(NULL, 0, 60000); /* until it is killed */
	_exit(0);
}

static void exchanges(void)
{
	static const struct peer peers[] = {
		{"whole", "mcpa\1\0\0\2ok", 10, true, false, false, true, 0},
		{"byte by byte", "mcpa\1\0\0\2ok", 10, true, true, false, true, 0},
		{"answer before the request is read", "mcpa\1\5\0\4busy", 12, false, false, false, true, 0},
		{"silent", "", 0, true, false, true, false, ETIMEDOUT},
		{"half an answer, then silent", "mcpa\1\0\0\2o", 9, true, false, true, false, ETIMEDOUT},
		{"half an answer, then gone", "mcpa\1\0\0\2o", 9, true, false, false, false, EPROTO},
		{"gone", "", 0, true, false, false, false, EPROTO},
		{"another protocol", "220 mail ESMTP\r\n", 16, true, false, true, false, EPROTO}};
	const struct sigaction action = {.sa_handler = interrupted}; /* no SA_RESTART: calls fail with EINTR */
	const struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
	static const unsigned char request[] = "mcpr\1\3\0\6\0\1a\0\1p";
	(void)sigaction(SIGALRM, &action, NULL);
	for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
		int fd[2];
		struct answer a;
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0 || fcntl(fd[0], F_SETFL, O_NONBLOCK) != 0)
			exit(2);
		pid_t child = fork();
		if (child == 0) {
			(void)close(fd[0]);
			play(fd[1], &peers[i]);
		}
		(void)close(fd[1]);
		if (!peers[i].reads) /* it has answered and is gone before the first byte is sent */
			(void)waitpid(child, NULL, 0);
		(void)setitimer(ITIMER_REAL, &often, NULL);
		/* Only a peer that says nothing is to meet the limit: the others may have to wait for a busy machine. */
		int64_t began = now(), limit = peers[i].error == ETIMEDOUT ? 1000 : 60000;
		errno = 0;
		bool ok = exchange(fd[0], request, sizeof request - 1, &a, began + limit);
		int error = errno;
		(void)setitimer(ITIMER_REAL, &never, NULL);
		if (ok != peers[i].ok || (!ok && error != peers[i].error))
			fail("exchange", peers[i].name);
		if (error == ETIMEDOUT && (now() - began < 1000 || now() - began > 30000))
			fail("time limit", peers[i].name);
		(void)close(fd[0]);
		(void)kill(child, SIGKILL);
		(void)waitpid(child, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	file(argv[1], "requests.txt", request, 8);
	file(argv[1], "answers.txt", answer, 5);
	limits();
	exchanges();
	return failures == 0 ? 0 : 1;
}
