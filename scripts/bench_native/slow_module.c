/* A PKCS#11 module that takes its time: every call goes on to another module, and C_Sign waits before it does.
 *
 * It stands in for a network HSM in the bench: the wait is outside any lock of the module behind it, so calls on
 * different sessions overlap, as they do on the wire. Asking only for the length of a signature does not wait.
 *
 * SLOW_MODULE_TARGET  the module behind (default /usr/lib/softhsm/libsofthsm2.so)
 * SLOW_MODULE_SIGN_US microseconds that C_Sign waits (default 2000)
 * SLOW_MODULE_STUCK   path; while the file exists, C_Sign does not return (a hung HSM, for the fault tests)
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11_subset.h"

static FUNCTION_LIST ours, *behind;
static struct timespec pause_for;
static const char *stuck_file;
static CK_RV load_result;
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

static CK_RV slow_sign(CK_ULONG session, unsigned char *data, CK_ULONG data_len, unsigned char *signature,
                       CK_ULONG *signature_len) {
  if (signature) {
    nanosleep(&pause_for, NULL);
    while (stuck_file && access(stuck_file, F_OK) == 0) usleep(20000);
  }
  return behind->C_Sign(session, data, data_len, signature, signature_len);
}

static void load(void) {
  const char *target = getenv("SLOW_MODULE_TARGET");
  const char *wait_us = getenv("SLOW_MODULE_SIGN_US");
  long us = wait_us ? atol(wait_us) : 2000;
  stuck_file = getenv("SLOW_MODULE_STUCK");
  pause_for.tv_sec = us / 1000000;
  pause_for.tv_nsec = (us % 1000000) * 1000;
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
