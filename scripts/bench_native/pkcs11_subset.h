/* The part of PKCS#11 2.40 that the bench speaks. Source: OASIS PKCS #11 Base Specification 2.40, pkcs11t.h, pkcs11f.h.
 * Functions that are not called keep their place in the list as a plain pointer.
 */
#ifndef CRYPTOSVC_PKCS11_SUBSET_H
#define CRYPTOSVC_PKCS11_SUBSET_H

typedef unsigned long CK_ULONG;
typedef unsigned long CK_RV;

#define CKF_OS_LOCKING_OK (1UL << 1)
#define CKF_SERIAL_SESSION (1UL << 2)

typedef struct {
  unsigned char major, minor;
} VERSION;

typedef struct {
  void *create_mutex, *destroy_mutex, *lock_mutex, *unlock_mutex;
  CK_ULONG flags;
  void *reserved;
} INITIALIZE_ARGS;

typedef struct {
  unsigned char label[32], manufacturer[32], model[16], serial[16];
  CK_ULONG flags, counts[10];
  VERSION hardware, firmware;
  unsigned char utc_time[16];
} TOKEN_INFO;

typedef struct {
  CK_ULONG type;
  void *value;
  CK_ULONG length;
} ATTRIBUTE;

typedef struct {
  CK_ULONG mechanism;
  void *parameter;
  CK_ULONG length;
} MECHANISM;

typedef struct {
  VERSION version;
  CK_RV (*C_Initialize)(void *);
  CK_RV (*C_Finalize)(void *);
  void *C_GetInfo, *C_GetFunctionList;
  CK_RV (*C_GetSlotList)(unsigned char, CK_ULONG *, CK_ULONG *);
  void *C_GetSlotInfo;
  CK_RV (*C_GetTokenInfo)(CK_ULONG, TOKEN_INFO *);
  void *C_GetMechanismList, *C_GetMechanismInfo, *C_InitToken, *C_InitPIN, *C_SetPIN;
  CK_RV (*C_OpenSession)(CK_ULONG, CK_ULONG, void *, void *, CK_ULONG *);
  CK_RV (*C_CloseSession)(CK_ULONG);
  void *C_CloseAllSessions, *C_GetSessionInfo, *C_GetOperationState, *C_SetOperationState;
  CK_RV (*C_Login)(CK_ULONG, CK_ULONG, unsigned char *, CK_ULONG);
  void *C_Logout, *C_CreateObject, *C_CopyObject, *C_DestroyObject, *C_GetObjectSize, *C_GetAttributeValue,
      *C_SetAttributeValue;
  CK_RV (*C_FindObjectsInit)(CK_ULONG, ATTRIBUTE *, CK_ULONG);
  CK_RV (*C_FindObjects)(CK_ULONG, CK_ULONG *, CK_ULONG, CK_ULONG *);
  CK_RV (*C_FindObjectsFinal)(CK_ULONG);
  void *encrypt_and_digest[13];
  CK_RV (*C_SignInit)(CK_ULONG, MECHANISM *, CK_ULONG);
  CK_RV (*C_Sign)(CK_ULONG, unsigned char *, CK_ULONG, unsigned char *, CK_ULONG *);
  void *C_SignUpdate, *C_SignFinal, *C_SignRecoverInit, *C_SignRecover;
  void *the_rest[20];
} FUNCTION_LIST;

#endif
