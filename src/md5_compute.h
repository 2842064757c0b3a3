/*
 * md5_compute.h - md5 of up to KIN_MD5_LANES strings at once.
 */
#ifndef KIN_MD5_COMPUTE_H
#define KIN_MD5_COMPUTE_H

#define KIN_MD5_LANES 8
#define KIN_MD5_WORDS 4

/* Digests of n strings, each as four words that written down from left to right are the usual hexadecimal form. */
extern void kin_md5(const char *const *strings, const int *lens, int n, uint32 (*digests)[KIN_MD5_WORDS]);

#endif
