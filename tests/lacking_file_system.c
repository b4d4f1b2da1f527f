/* Makes a folder look as if its file system lacked operations, for programs that are started with this in LD_PRELOAD.

   LACKING_BELOW is the folder, and LACKING lists operations with the error number that each answers: link=95,mmap=19.
   Operations: link, exclusive (renameat2 to a free name), rename, rename_folder, sync, sync_folder, mmap, preadv. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int lacks(const char *operation, const char *path) {
    const char *root = getenv("LACKING_BELOW"), *all = getenv("LACKING");
    size_t length = strlen(operation);
    if (!root || !all || !path || strncmp(path, root, strlen(root))) return 0;
    for (const char *at = all; at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (!strncmp(at, operation, length) && at[length] == '=') return errno = atoi(at + length + 1), 1;
    return 0;
}

static int lacks_open(const char *operation, int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return lacks(operation, path);
}

static const char *renaming(const char *path) {
    struct stat found;
    return !lstat(path, &found) && S_ISDIR(found.st_mode) ? "rename_folder" : "rename";
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

int link(const char *from, const char *to) {
    return lacks("link", to) ? -1 : NEXT(int, "link", const char *, const char *)(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    if (lacks("link", to)) return -1;
    return NEXT(int, "linkat", int, const char *, int, const char *, int)(a, from, b, to, flags);
}
int rename(const char *from, const char *to) {
    return lacks(renaming(from), to) ? -1 : NEXT(int, "rename", const char *, const char *)(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    if (lacks(renaming(from), to)) return -1;
    return NEXT(int, "renameat", int, const char *, int, const char *)(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    if (lacks(flags ? "exclusive" : renaming(from), to)) return -1;
    return NEXT(int, "renameat2", int, const char *, int, const char *, unsigned)(a, from, b, to, flags);
}
int fsync(int file) {
    struct stat found;
    const char *what = !fstat(file, &found) && S_ISDIR(found.st_mode) ? "sync_folder" : "sync";
    return lacks_open(what, file) ? -1 : NEXT(int, "fsync", int)(file);
}
void *mmap(void *at, size_t size, int mode, int flags, int file, off_t offset) {
    if (file >= 0 && lacks_open("mmap", file)) return MAP_FAILED;
    return NEXT(void *, "mmap", void *, size_t, int, int, int, off_t)(at, size, mode, flags, file, offset);
}
void *mmap64(void *at, size_t size, int mode, int flags, int file, off_t offset) {
    return mmap(at, size, mode, flags, file, offset);
}
ssize_t preadv2(int file, const struct iovec *parts, int count, off_t offset, int flags) {
    if (lacks_open("preadv", file)) return -1;
    return NEXT(ssize_t, "preadv2", int, const struct iovec *, int, off_t, int)(file, parts, count, offset, flags);
}
ssize_t preadv64v2(int file, const struct iovec *parts, int count, off_t offset, int flags) {
    return preadv2(file, parts, count, offset, flags);
}
ssize_t preadv(int file, const struct iovec *parts, int count, off_t offset) {
    return preadv2(file, parts, count, offset, 0);
}
ssize_t preadv64(int file, const struct iovec *parts, int count, off_t offset) {
    return preadv2(file, parts, count, offset, 0);
}
