/*
 * machine.c - describes the machine and the server, so that a table of results says where it was made.
 *
 * Owns:    a scratch file in the cluster's folder while it probes the disk.
 * Locking: none.
 * Runs in: the benchmark client, main thread, after the goals.
 *
 * The disk's probe is what a commit does: write 8 kB into a preallocated file and fdatasync it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "goals.h"
#include "results.h"
#include "session.h"

#define PROBE_WRITES 400
#define PROBE_BLOCK  8192

/* The rest of the first line that begins with the word and a colon; "unknown" if there is none. */
static void
line_of_file(const char *path, const char *word, char *value, int size)
{
	char line[512];
	FILE *file = fopen(path, "r");

	snprintf(value, size, "unknown");
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char *colon = strchr(line, ':');

		if (strncmp(line, word, strlen(word)) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(value, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
		break;
	}
	fclose(file);
}

/* The type of the file system that holds the path: the longest mount point that is a beginning of it. */
static void
filesystem_of(const char *path, char *value, int size)
{
	char device[256];
	char mount[256];
	char type[64];
	size_t best = 0;
	FILE *file = fopen("/proc/mounts", "r");

	snprintf(value, size, "unknown");
	if (file == NULL)
		return;
	while (fscanf(file, "%255s %255s %63s %*[^\n]", device, mount, type) == 3)
	{
		size_t length = strlen(mount);

		if (strncmp(path, mount, length) != 0 || length < best)
			continue;
		best = length;
		snprintf(value, size, "%s on %s", type, device);
	}
	fclose(file);
}

/* Milliseconds of each write and fdatasync of a block; the number of them, 0 if the folder is not ours to write to. */
static int
probe_disk(const char *folder, double *times)
{
	char path[512];
	char block[PROBE_BLOCK];
	int file;
	int done = 0;

	snprintf(path, sizeof(path), "%s/bench-probe", folder);
	memset(block, 'k', sizeof(block));
	file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
	if (file < 0)
		return 0;
	for (int i = 0; i < PROBE_WRITES; i++)
		if (write(file, block, sizeof(block)) != (ssize_t) sizeof(block))
			die("could not write to %s", path);
	fsync(file);
	for (; done < PROBE_WRITES; done++)
	{
		double started = now();

		if (pwrite(file, block, sizeof(block), (off_t) done * PROBE_BLOCK) != (ssize_t) sizeof(block) ||
			fdatasync(file) != 0)
			die("could not write to %s", path);
		times[done] = (now() - started) * 1000;
	}
	close(file);
	unlink(path);
	return done;
}

static void
print_setting(FILE *to, PGconn *conn, const char *name)
{
	char *value = session_text(conn, "SHOW %s", name);

	fprintf(to, "%s %s", name, value);
	free(value);
}

/* Prints the description as a list in Markdown. */
void
machine_print(FILE *to)
{
	static const char *const shown[] = {"shared_buffers", "max_wal_size",     "max_locks_per_transaction",
										"fsync",          "full_page_writes", "wal_sync_method",
										"wal_level",      "autovacuum"};
	PGconn *conn = session_open(NULL);
	char *version = session_text(conn, "SELECT split_part(version(), ',', 1)");
	char *extension = session_text(conn, "SELECT coalesce(max(extversion), 'none') FROM pg_extension"
										 " WHERE extname = 'kinesis'");
	char text[512];
	double loads[3];
	double times[PROBE_WRITES];
	int probes;
	struct utsname kernel;

	line_of_file("/proc/cpuinfo", "model name", text, sizeof(text));
	fprintf(to, "- Processor: %s, %ld cores\n", text, sysconf(_SC_NPROCESSORS_ONLN));
	line_of_file("/proc/meminfo", "MemTotal", text, sizeof(text));
	fprintf(to, "- Memory: %.1f GiB\n", strtod(text, NULL) / (1024 * 1024));
	uname(&kernel);
	fprintf(to, "- Kernel: %s %s\n", kernel.sysname, kernel.release);
	fprintf(to, "- Server: %s, kinesis %s\n", version, extension);
	fprintf(to, "- Settings: ");
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
	{
		print_setting(to, conn, shown[i]);
		fprintf(to, i + 1 < sizeof(shown) / sizeof(shown[0]) ? ", " : "; the rest default\n");
	}
	filesystem_of(settings.data_directory, text, sizeof(text));
	fprintf(to, "- Disk: %s", text);
	probes = probe_disk(settings.data_directory, times);
	if (probes > 0)
		fprintf(to, "; 8 kB write and fdatasync p50 %.3f ms, p99 %.3f ms", percentile(times, probes, 50),
				percentile(times, probes, 99));
	fprintf(to, "\n");
	if (getloadavg(loads, 3) == 3)
		fprintf(to, "- Load average at the end (1, 5, 15 min): %.2f, %.2f, %.2f\n", loads[0], loads[1], loads[2]);
	fprintf(to, "- Rounds: %d, scale %g\n", settings.rounds, settings.scale);
	free(version);
	free(extension);
	PQfinish(conn);
}
