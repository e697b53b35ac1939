/* What a P-256 signature costs a PKCS#11 module when C calls it and nothing else stands in between.
 *
 * usage: raw_sign LIBRARY TOKEN_LABEL PIN_FILE KEY_LABEL COUNT
 * prints {"signatures": N, "cpu_us": user+system CPU per signature, "wall_us": elapsed per signature}
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "pkcs11_subset.h"

static CK_RV checked(const char *what, CK_RV rv) {
  if (rv != 0) {
    fprintf(stderr, "%s: CK_RV 0x%lx\n", what, rv);
    exit(1);
  }
  return rv;
}

static double cpu_us(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

static double wall_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: raw_sign LIBRARY TOKEN_LABEL PIN_FILE KEY_LABEL COUNT\n");
    return 2;
  }
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  CK_RV (*function_list)(FUNCTION_LIST **) = (CK_RV (*)(FUNCTION_LIST **))dlsym(library, "C_GetFunctionList");
  FUNCTION_LIST *f;
  checked("C_GetFunctionList", function_list(&f));
  INITIALIZE_ARGS arguments = {0};
  arguments.flags = CKF_OS_LOCKING_OK;
  checked("C_Initialize", f->C_Initialize(&arguments));

  CK_ULONG slots[64], count = 64, slot = 0;
  int found = 0;
  checked("C_GetSlotList", f->C_GetSlotList(1, slots, &count));
  for (CK_ULONG i = 0; i < count; i++) {
    TOKEN_INFO info;
    char padded[33];
    snprintf(padded, sizeof padded, "%-32s", argv[2]);
    checked("C_GetTokenInfo", f->C_GetTokenInfo(slots[i], &info));
    if (memcmp(info.label, padded, 32) == 0) {
      slot = slots[i];
      found = 1;
    }
  }
  if (!found) {
    fprintf(stderr, "no such token\n");
    return 1;
  }

  char pin[256] = {0};
  FILE *file = fopen(argv[3], "r");
  if (!file || !fgets(pin, sizeof pin, file)) {
    fprintf(stderr, "cannot read the PIN file\n");
    return 1;
  }
  fclose(file);
  pin[strcspn(pin, "\r\n")] = 0;
  CK_ULONG session, key;
  checked("C_OpenSession", f->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session));
  checked("C_Login", f->C_Login(session, 1, (unsigned char *)pin, strlen(pin)));
  memset(pin, 0, sizeof pin);

  CK_ULONG private_key = 3;
  ATTRIBUTE template[] = {{0x00, &private_key, sizeof private_key}, {0x03, argv[4], strlen(argv[4])}};
  checked("C_FindObjectsInit", f->C_FindObjectsInit(session, template, 2));
  checked("C_FindObjects", f->C_FindObjects(session, &key, 1, &count));
  checked("C_FindObjectsFinal", f->C_FindObjectsFinal(session));
  if (count != 1) {
    fprintf(stderr, "no such key\n");
    return 1;
  }

  long total = atol(argv[5]);
  unsigned char digest[32] = {0}, signature[64];
  MECHANISM ecdsa = {0x1041, NULL, 0};
  double cpu = 0, wall = 0;
  for (long i = -total / 10; i < total; i++) {
    if (i == 0) { /* the first tenth warms up */
      cpu = cpu_us();
      wall = wall_us();
    }
    CK_ULONG length = sizeof signature;
    memcpy(digest, &i, sizeof i);
    checked("C_SignInit", f->C_SignInit(session, &ecdsa, key));
    checked("C_Sign", f->C_Sign(session, digest, sizeof digest, signature, &length));
  }
  cpu = cpu_us() - cpu;
  wall = wall_us() - wall;
  printf("{\"signatures\": %ld, \"cpu_us\": %.3f, \"wall_us\": %.3f}\n", total, cpu / total, wall / total);
  f->C_CloseSession(session);
  f->C_Finalize(NULL);
  return 0;
}
