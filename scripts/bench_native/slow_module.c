/* A PKCS#11 module that takes its time: every call goes on to another module, and C_Sign takes a given time in all.
 *
 * It stands in for a network HSM in the bench: the wait is outside any lock of the module behind it, so calls on
 * different sessions overlap, as they do on the wire. Asking only for the length of a signature does not wait.
 *
 * SLOW_MODULE_TARGET  the module behind (default /usr/lib/softhsm/libsofthsm2.so)
 * SLOW_MODULE_SIGN_US microseconds that C_Sign takes, the signature included (default 2000)
 * SLOW_MODULE_STUCK   path; while the file exists, C_Sign does not return (a hung HSM, for the fault tests)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11_subset.h"

static FUNCTION_LIST ours, *behind;
static long sign_us = 2000;
static const char *stuck_file;
static CK_RV load_result;
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

static CK_RV slow_sign(CK_ULONG session, unsigned char *data, CK_ULONG data_len, unsigned char *signature,
                       CK_ULONG *signature_len) {
  struct timespec until;
  if (!signature) return behind->C_Sign(session, data, data_len, signature, signature_len);
  while (stuck_file && access(stuck_file, F_OK) == 0) usleep(20000);
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += sign_us * 1000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  CK_RV result = behind->C_Sign(session, data, data_len, signature, signature_len);
  prctl(PR_SET_TIMERSLACK, 1000UL); /* this thread wakes within a microsecond of the time, not within fifty */
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {
  }
  return result;
}

static void load(void) {
  const char *target = getenv("SLOW_MODULE_TARGET");
  const char *wait_us = getenv("SLOW_MODULE_SIGN_US");
  stuck_file = getenv("SLOW_MODULE_STUCK");
  if (wait_us) sign_us = atol(wait_us);
  load_result = 5; /* CKR_GENERAL_ERROR */
  void *library = dlopen(target ? target : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  CK_RV (*function_list)(FUNCTION_LIST **) = (CK_RV (*)(FUNCTION_LIST **))dlsym(library, "C_GetFunctionList");
  if (!function_list) return;
  load_result = function_list(&behind);
  if (load_result) return;
  ours = *behind;
  ours.C_Sign = slow_sign;
}

CK_RV C_GetFunctionList(FUNCTION_LIST **list) {
  pthread_once(&loaded, load);
  if (load_result) return load_result;
  *list = &ours;
  return 0;
}
