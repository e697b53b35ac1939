/* What a GBCS MAC costs a PKCS#11 module without the KDF of SP 800-56A when C calls it: ECDH (CKD_NULL), Z read out, the
 * derived key put in, GMAC over 100 octets, both objects destroyed. The hash in between is the caller's and not counted.
 *
 * usage: raw_mac LIBRARY TOKEN_LABEL PIN_FILE KEY_LABEL COUNT
 * prints {"macs": N, "cpu_us": user+system CPU per MAC, "wall_us": elapsed per MAC}
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "pkcs11_subset.h"

typedef struct {
  CK_ULONG kdf, shared_length;
  unsigned char *shared;
  CK_ULONG public_length;
  unsigned char *public_point;
} ECDH;

typedef struct {
  unsigned char *iv;
  CK_ULONG iv_length, iv_bits;
  unsigned char *additional;
  CK_ULONG additional_length, tag_bits;
} GCM;

typedef CK_RV (*derive_function)(CK_ULONG, MECHANISM *, CK_ULONG, ATTRIBUTE *, CK_ULONG, CK_ULONG *);
typedef CK_RV (*get_function)(CK_ULONG, CK_ULONG, ATTRIBUTE *, CK_ULONG);
typedef CK_RV (*create_function)(CK_ULONG, ATTRIBUTE *, CK_ULONG, CK_ULONG *);
typedef CK_RV (*destroy_function)(CK_ULONG, CK_ULONG);
typedef CK_RV (*init_function)(CK_ULONG, MECHANISM *, CK_ULONG);
typedef CK_RV (*encrypt_function)(CK_ULONG, unsigned char *, CK_ULONG, unsigned char *, CK_ULONG *);

/* The base point of P-256 (FIPS 186-4 D.1.2.3): to the module a public key like any other. */
static unsigned char GENERATOR[65] = {
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5,
    0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4,
    0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a,
    0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33,
    0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
};

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
    fprintf(stderr, "usage: raw_mac LIBRARY TOKEN_LABEL PIN_FILE KEY_LABEL COUNT\n");
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

  derive_function derive = (derive_function)f->the_rest[14];
  get_function get_value = (get_function)f->C_GetAttributeValue;
  create_function create = (create_function)f->C_CreateObject;
  destroy_function destroy = (destroy_function)f->C_DestroyObject;
  init_function encrypt_init = (init_function)f->encrypt_and_digest[0];
  encrypt_function encrypt = (encrypt_function)f->encrypt_and_digest[1];

  long total = atol(argv[5]);
  double cpu = 0, wall = 0;
  unsigned char no = 0, yes = 1;
  CK_ULONG secret_class = 4, generic = 0x10, aes = 0x1f, z_octets = 32;
  unsigned char z[32], tag[16], vector[12] = {0}, additional[100] = {0x11};
  /* every use said explicitly, as the service does: what is not said is the module's to choose */
  ATTRIBUTE shared[] = {{0x00, &secret_class, sizeof secret_class}, {0x100, &generic, sizeof generic},
                        {0x01, &no, 1}, {0x02, &yes, 1}, {0x103, &no, 1}, {0x162, &yes, 1}, {0x104, &no, 1},
                        {0x105, &no, 1}, {0x108, &no, 1}, {0x10a, &no, 1}, {0x106, &no, 1}, {0x107, &no, 1},
                        {0x10c, &no, 1}, {0x161, &z_octets, sizeof z_octets}};
  ATTRIBUTE derived[] = {{0x00, &secret_class, sizeof secret_class}, {0x100, &aes, sizeof aes},
                         {0x01, &no, 1}, {0x02, &yes, 1}, {0x103, &yes, 1}, {0x162, &no, 1}, {0x104, &yes, 1},
                         {0x105, &yes, 1}, {0x108, &no, 1}, {0x10a, &no, 1}, {0x106, &no, 1}, {0x107, &no, 1},
                         {0x10c, &no, 1}, {0x11, z, 16}};
  ECDH agreement = {1, 0, NULL, sizeof GENERATOR, GENERATOR};
  MECHANISM ecdh = {0x1050, &agreement, sizeof agreement};
  for (long i = -total / 10; i < total; i++) {
    if (i == 0) { /* the first tenth warms up */
      cpu = cpu_us();
      wall = wall_us();
    }
    CK_ULONG secret, mac_key, length = sizeof tag;
    checked("C_DeriveKey", derive(session, &ecdh, key, shared, 14, &secret));
    ATTRIBUTE value = {0x11, z, sizeof z};
    checked("C_GetAttributeValue", get_value(session, secret, &value, 1));
    checked("C_DestroyObject", destroy(session, secret));
    checked("C_CreateObject", create(session, derived, 14, &mac_key));
    memcpy(additional + 1, &i, sizeof i);
    GCM parameters = {vector, sizeof vector, 96, additional, sizeof additional, 128};
    MECHANISM gcm = {0x1087, &parameters, sizeof parameters};
    checked("C_EncryptInit", encrypt_init(session, &gcm, mac_key));
    checked("C_Encrypt", encrypt(session, tag, 0, tag, &length));
    checked("C_DestroyObject", destroy(session, mac_key));
  }
  cpu = cpu_us() - cpu;
  wall = wall_us() - wall;
  printf("{\"macs\": %ld, \"cpu_us\": %.3f, \"wall_us\": %.3f}\n", total, cpu / total, wall / total);
  f->C_CloseSession(session);
  f->C_Finalize(NULL);
  return 0;
}
