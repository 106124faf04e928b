/* A machine whose clock is set, and whose disk takes its time: preloaded into the relay.
 *
 * BREAKING_SHIM names a file with two signed 64-bit numbers in the machine's own order: by how many
 * nanoseconds CLOCK_REALTIME is off, and for how many microseconds each sync is delayed. Whoever drives
 * the test writes them there; the file is mapped, so they hold at once.
 *
 * Only what goes through libc is changed. CLOCK_MONOTONIC and CLOCK_BOOTTIME go on, as they do on a
 * machine whose clock is set. System calls are made directly: looking the real functions up may allocate,
 * and the allocator asks for the time.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000LL

struct orders {
    volatile int64_t off_nanoseconds;
    volatile int64_t sync_microseconds;
};

static const struct orders nothing;
static const struct orders *orders = &nothing;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("BREAKING_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct orders), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        orders = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t off = orders->off_nanoseconds;
        int64_t all = (int64_t)time->tv_sec * BILLION + time->tv_nsec + off;
        time->tv_sec = all / BILLION;
        time->tv_nsec = all % BILLION;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

static void take_time(void)
{
    int64_t micros = orders->sync_microseconds;
    struct timespec rest = {micros / 1000000, micros % 1000000 * 1000};
    if (micros > 0)
        nanosleep(&rest, NULL);
}

int fdatasync(int file)
{
    take_time();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file)
{
    take_time();
    return (int)syscall(SYS_fsync, file);
}
