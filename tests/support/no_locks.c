/* Loaded before the C library, it makes a file system without locks of every one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>

static int refused(int command) {
    switch (command) {
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        errno = REFUSED_WITH;
        return 1;
    }
    return 0;
}

#define DEFINE(NAME)                                                       \
    int NAME(int file, int command, ...) {                                 \
        va_list rest;                                                      \
        va_start(rest, command);                                           \
        void *argument = va_arg(rest, void *);                             \
        va_end(rest);                                                      \
        int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #NAME);              \
        return refused(command) ? -1 : real(file, command, argument);      \
    }

DEFINE(fcntl)
DEFINE(fcntl64)

int flock(int file, int operation) {
    (void)file;
    (void)operation;
    errno = REFUSED_WITH;
    return -1;
}
