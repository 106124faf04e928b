/*
 * A disk that forgets what was not synced, for crash tests. Preloaded into a process, it keeps beside
 * the directory SHADOW_ROOT a store from which a tree can be put together that holds only what a
 * successful fsync or fdatasync has promised:
 *
 *   SHADOW_STORE/obj/INODE   a file's octets, as of its last sync
 *   SHADOW_STORE/dir/INODE   a directory's entries, as of its last sync: lines "f|d INODE NAME"
 *
 * What a sync covers is read before the sync is made, and stored after it has succeeded and before
 * its caller hears of it; so whatever the caller promises on its strength is in the store. A kill
 * between leaves a sync half done, as a power cut does. sync_file_range promises nothing, here as
 * everywhere. Room set aside (fallocate) is of no interest: a file's length is taken at its sync.
 *
 * The system calls seen are those through libc, which is how Rust's std and sled make all that change
 * octets or names. Inodes that lose a name are held open, so that their numbers are not given out
 * again while the process lives.
 *
 *   SHADOW_IGNORE   "log/??????????.seg:log/": syncs that are made but not stored; a planted defect, to prove
 *                   that losses are noticed. Shell patterns relative to the root; directories end in /
 *   SHADOW_STRAY    per mille of writes of which some blocks, and the names beside the file, reach the
 *                   store without any sync, as a disk may do of its own accord
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NODES 4096
#define BLOCK 4096
/* In place of the number of the system call: the disk does it of its own accord. */
#define UNASKED -1

struct piece {
    off_t from, to;
};

/* A file or directory, by its inode. */
struct node {
    ino_t inode;
    struct node *next;
    pthread_mutex_t storing; /* held over a whole sync: the second one must not return before the first */
    struct piece *dirty;     /* written since the last sync */
    size_t count, room;
    off_t floor; /* the least length it was cut to since then */
};

static struct node *nodes[NODES];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], store[PATH_MAX];
static const char *ignored;
static unsigned stray;
static dev_t device;
static int active;

static void fail(const char *what) {
    dprintf(2, "syncshadow: %s: %s\n", what, strerror(errno));
    _exit(86);
}

__attribute__((constructor)) static void start(void) {
    const char *at = getenv("SHADOW_ROOT"), *to = getenv("SHADOW_STORE"), *share = getenv("SHADOW_STRAY");
    struct stat status;
    if (!at || !to) return;
    if (!realpath(at, root) || !realpath(to, store) || stat(root, &status)) fail("SHADOW_ROOT or SHADOW_STORE");
    ignored = getenv("SHADOW_IGNORE");
    stray = share ? (unsigned)atoi(share) : 0;
    device = status.st_dev;
    active = 1;
}

/* The path below the root that a descriptor stands for; 0 where it is elsewhere. */
static int path_of(int fd, char *relative) {
    char link[64], path[PATH_MAX + 32];
    size_t prefix = strlen(root);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, root, prefix) || (path[prefix] && path[prefix] != '/')) return 0;
    strcpy(relative, path[prefix] ? path + prefix + 1 : "");
    return 1;
}

static int is_ignored(const char *relative) {
    char list[PATH_MAX], *rest = list, *pattern;
    if (!ignored) return 0;
    snprintf(list, sizeof list, "%s", ignored);
    while ((pattern = strsep(&rest, ":")))
        if (*pattern && !fnmatch(pattern, relative, 0)) return 1;
    return 0;
}

static struct node *node_of(ino_t inode) {
    struct node **slot = &nodes[inode % NODES], *node;
    for (node = *slot; node; node = node->next)
        if (node->inode == inode) return node;
    if (!(node = calloc(1, sizeof *node))) fail("memory");
    node->inode = inode;
    node->floor = INT64_MAX;
    pthread_mutex_init(&node->storing, NULL);
    node->next = *slot;
    return *slot = node;
}

static void add_piece(struct node *node, off_t from, off_t to) {
    if (node->count) {
        struct piece *last = &node->dirty[node->count - 1];
        if (from <= last->to && to >= last->from) {
            if (from < last->from) last->from = from;
            if (to > last->to) last->to = to;
            return;
        }
    }
    if (node->count == node->room) {
        node->room = node->room ? 2 * node->room : 16;
        node->dirty = realloc(node->dirty, node->room * sizeof *node->dirty);
        if (!node->dirty) fail("memory");
    }
    node->dirty[node->count++] = (struct piece){from, to};
}

static int object(ino_t inode) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/obj/%llu", store, (unsigned long long)inode);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) fail(path);
    return fd;
}

static int readable(int fd) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int copy = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    if (copy < 0) fail("reading what is synced");
    return copy;
}

static void put(int to, const char *octets, size_t length, off_t at) {
    while (length) {
        ssize_t written = syscall(SYS_pwrite64, to, octets, length, at);
        if (written <= 0) fail("writing the shadow");
        octets += written, at += written, length -= (size_t)written;
    }
}

static size_t get(int from, char *octets, size_t length, off_t at) {
    size_t done = 0;
    while (done < length) {
        ssize_t got = syscall(SYS_pread64, from, octets + done, length - done, at + (off_t)done);
        if (got < 0) fail("reading what is synced");
        if (!got) break;
        done += (size_t)got;
    }
    return done;
}

static unsigned dice(void) {
    static __thread uint64_t state;
    if (!state) state = (uint64_t)(uintptr_t)&state ^ ((uint64_t)getpid() << 32) ^ (uint64_t)time(NULL);
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33);
}

static long sync_directory(int fd, struct node *node, long call) {
    char link[64], name[PATH_MAX + 64], temporary[PATH_MAX + 96], *text = NULL;
    size_t length = 0;
    struct dirent *entry;
    pthread_mutex_lock(&node->storing);
    FILE *out = open_memstream(&text, &length);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    DIR *dir = opendir(link);
    if (!out || !dir) fail("listing what is synced");
    while ((entry = readdir(dir))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char type = entry->d_type == DT_DIR ? 'd' : 'f';
        fprintf(out, "%c %llu %s\n", type, (unsigned long long)entry->d_ino, entry->d_name);
    }
    closedir(dir);
    fclose(out);
    long outcome = call == UNASKED ? 0 : syscall(call, fd);
    int saved = errno;
    if (!outcome) {
        snprintf(name, sizeof name, "%s/dir/%llu", store, (unsigned long long)node->inode);
        snprintf(temporary, sizeof temporary, "%s.new", name);
        int file = (int)syscall(SYS_openat, AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0) fail(temporary);
        put(file, text, length, 0);
        close(file);
        if (syscall(SYS_renameat, AT_FDCWD, temporary, AT_FDCWD, name)) fail(name);
    }
    pthread_mutex_unlock(&node->storing);
    free(text);
    errno = saved;
    return outcome;
}

/* Some blocks of what was just written reach the disk unasked, and the names beside it. */
static void stray_off(int fd, struct node *node, off_t from, off_t to) {
    char block[BLOCK], relative[PATH_MAX + 32], parent[2 * PATH_MAX + 64];
    if (!path_of(fd, relative) || is_ignored(relative)) return;
    pthread_mutex_lock(&node->storing);
    int source = readable(fd), target = object(node->inode);
    for (off_t at = from / BLOCK * BLOCK; at < to; at += BLOCK)
        if (dice() % 2) put(target, block, get(source, block, BLOCK, at), at);
    close(source), close(target);
    pthread_mutex_unlock(&node->storing);
    char *slash = strrchr(relative, '/');
    if (slash) slash[1] = 0;
    else relative[0] = 0;
    if (is_ignored(relative)) return;
    snprintf(parent, sizeof parent, "%s/%s", root, relative);
    int directory = (int)syscall(SYS_openat, AT_FDCWD, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    struct stat status;
    if (directory < 0) return;
    if (!fstat(directory, &status)) {
        pthread_mutex_lock(&table);
        struct node *beside = node_of(status.st_ino);
        pthread_mutex_unlock(&table);
        sync_directory(directory, beside, UNASKED);
    }
    close(directory);
}

/* Notes a write that has just been made. */
static void note(int fd, off_t from, ssize_t length) {
    struct stat status;
    int saved = errno;
    if (active && length > 0 && !fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_dev == device) {
        pthread_mutex_lock(&table);
        struct node *node = node_of(status.st_ino);
        add_piece(node, from, from + length);
        pthread_mutex_unlock(&table);
        if (stray && dice() % 1000 < stray) stray_off(fd, node, from, from + length);
    }
    errno = saved;
}

static void note_at_cursor(int fd, ssize_t length) {
    if (!active || length <= 0) return;
    int saved = errno;
    off_t end = lseek(fd, 0, SEEK_CUR);
    if (end >= length) note(fd, end - length, length);
    errno = saved;
}

static void note_cut(int fd, off_t length) {
    struct stat status;
    int saved = errno;
    if (active && !fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_dev == device) {
        pthread_mutex_lock(&table);
        struct node *node = node_of(status.st_ino);
        if (length < node->floor) node->floor = length;
        pthread_mutex_unlock(&table);
    }
    errno = saved;
}

/* Holds the inode behind a name that is about to go. */
static void hold(int at, const char *name) {
    char relative[PATH_MAX + 32];
    int saved = errno;
    if (active) {
        int fd = (int)syscall(SYS_openat, at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd >= 0 && !path_of(fd, relative)) close(fd);
    }
    errno = saved;
}

static long sync_file(int fd, struct node *node, long call) {
    struct stat status;
    pthread_mutex_lock(&node->storing);
    pthread_mutex_lock(&table);
    struct piece *pieces = node->dirty;
    size_t count = node->count;
    off_t floor = node->floor;
    node->dirty = NULL, node->count = node->room = 0, node->floor = INT64_MAX;
    pthread_mutex_unlock(&table);
    if (fstat(fd, &status)) fail("looking at what is synced");
    char **octets = calloc(count + 1, sizeof *octets);
    int source = readable(fd);
    if (!octets) fail("memory");
    for (size_t i = 0; i < count; i++) {
        if (!(octets[i] = malloc((size_t)(pieces[i].to - pieces[i].from)))) fail("memory");
        pieces[i].to = pieces[i].from
            + (off_t)get(source, octets[i], (size_t)(pieces[i].to - pieces[i].from), pieces[i].from);
    }
    close(source);
    long outcome = syscall(call, fd);
    int saved = errno;
    if (!outcome) {
        int target = object(node->inode);
        if (floor != INT64_MAX) {
            struct stat stored;
            if (!fstat(target, &stored) && stored.st_size > floor) syscall(SYS_ftruncate, target, floor);
        }
        for (size_t i = 0; i < count; i++)
            put(target, octets[i], (size_t)(pieces[i].to - pieces[i].from), pieces[i].from);
        if (syscall(SYS_ftruncate, target, status.st_size)) fail("writing the shadow");
        close(target);
    } else {
        pthread_mutex_lock(&table);
        for (size_t i = 0; i < count; i++) add_piece(node, pieces[i].from, pieces[i].to);
        if (floor < node->floor) node->floor = floor;
        pthread_mutex_unlock(&table);
    }
    pthread_mutex_unlock(&node->storing);
    for (size_t i = 0; i < count; i++) free(octets[i]);
    free(octets);
    free(pieces);
    errno = saved;
    return outcome;
}

static int sync_any(int fd, long call) {
    struct stat status;
    char relative[PATH_MAX + 32];
    if (!active || fstat(fd, &status) || status.st_dev != device || !path_of(fd, relative))
        return (int)syscall(call, fd);
    int is_directory = S_ISDIR(status.st_mode);
    if (is_directory) strcat(relative, "/");
    if ((!is_directory && !S_ISREG(status.st_mode)) || is_ignored(relative)) return (int)syscall(call, fd);
    pthread_mutex_lock(&table);
    struct node *node = node_of(status.st_ino);
    pthread_mutex_unlock(&table);
    return (int)(is_directory ? sync_directory(fd, node, call) : sync_file(fd, node, call));
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

ssize_t write(int fd, const void *octets, size_t length) {
    ssize_t written = syscall(SYS_write, fd, octets, length);
    struct stat status;
    if (active && written > 0 && !fstat(fd, &status) && S_ISREG(status.st_mode)) note_at_cursor(fd, written);
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t written = syscall(SYS_writev, fd, parts, count);
    struct stat status;
    if (active && written > 0 && !fstat(fd, &status) && S_ISREG(status.st_mode)) note_at_cursor(fd, written);
    return written;
}

ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t at) {
    ssize_t written = syscall(SYS_pwrite64, fd, octets, length, at);
    note(fd, at, written);
    return written;
}

ssize_t pwrite(int fd, const void *octets, size_t length, off_t at) { return pwrite64(fd, octets, length, at); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    ssize_t written = syscall(SYS_pwritev, fd, parts, count, at, 0);
    note(fd, at, written);
    return written;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int ftruncate64(int fd, off64_t length) {
    int outcome = (int)syscall(SYS_ftruncate, fd, length);
    if (!outcome) note_cut(fd, length);
    return outcome;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int unlink(const char *path) {
    hold(AT_FDCWD, path);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int at, const char *path, int flags) {
    hold(at, path);
    return (int)syscall(SYS_unlinkat, at, path, flags);
}

int rmdir(const char *path) {
    hold(AT_FDCWD, path);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

int rename(const char *from, const char *to) {
    hold(AT_FDCWD, to);
    return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    hold(to_at, to);
    return (int)syscall(SYS_renameat, from_at, from, to_at, to);
}
