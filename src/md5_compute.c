/*
 * md5_compute.c - md5 (RFC 1321) of several short strings at once.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends.
 *
 * Every record's partition key is hashed, and a step of md5 waits for the step before, so a processor that hashes one key
 * at a time mostly waits: OpenSSL's md5 was an eighth of put_records.  Here eight keys go through the steps side by
 * side, in vectors that GCC and Clang turn into whatever the processor has.  See bench/README.md, Profiles.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bswap.h"

#include "md5_compute.h"

#define BLOCK_SIZE  64
#define BLOCK_WORDS 16
#define LENGTH_AT   56 /* where the last block has the length in bits */

typedef uint32 Lanes __attribute__((vector_size(KIN_MD5_LANES * sizeof(uint32))));

/* Words of a block, one lane a string. */
typedef union Block
{
	uint32 word[BLOCK_WORDS][KIN_MD5_LANES];
	Lanes lanes[BLOCK_WORDS];
} Block;

/* The integer part of 2^32 * |sin(i + 1)|. */
static const uint32 sines[64] = {
	0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
	0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
	0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
	0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
	0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
	0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
	0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
	0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

/* What each round does with its three words, in the spelling with the fewest operations. */
#define MIX_F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MIX_G(x, y, z) ((y) ^ ((z) & ((x) ^ (y))))
#define MIX_H(x, y, z) ((x) ^ (y) ^ (z))
#define MIX_I(x, y, z) ((y) ^ ((x) | ~(z)))

#define STEP(mix, a, b, c, d, at, i, shift)                                                                            \
	do                                                                                                                 \
	{                                                                                                                  \
		a += mix(b, c, d) + block->lanes[(at) % BLOCK_WORDS] + sines[i];                                               \
		a = b + ((a << (shift)) | (a >> (32 - (shift))));                                                              \
	} while (0)

/* Four steps, after which the words have their places again; 'first' and 'stride' say in which order words are taken. */
#define FOUR_STEPS(mix, first, stride, i, s0, s1, s2, s3)                                                              \
	do                                                                                                                 \
	{                                                                                                                  \
		STEP(mix, a, b, c, d, (first) + (stride) * (i), i, s0);                                                        \
		STEP(mix, d, a, b, c, (first) + (stride) * ((i) + 1), (i) + 1, s1);                                            \
		STEP(mix, c, d, a, b, (first) + (stride) * ((i) + 2), (i) + 2, s2);                                            \
		STEP(mix, b, c, d, a, (first) + (stride) * ((i) + 3), (i) + 3, s3);                                            \
	} while (0)

/* Takes a block into the state of those lanes whose mask is all ones. */
static void
take_block(Lanes state[4], const Block *block, const Lanes *mask)
{
	Lanes a = state[0];
	Lanes b = state[1];
	Lanes c = state[2];
	Lanes d = state[3];

	for (int i = 0; i < 16; i += 4)
		FOUR_STEPS(MIX_F, 0, 1, i, 7, 12, 17, 22);
	for (int i = 16; i < 32; i += 4)
		FOUR_STEPS(MIX_G, 1, 5, i, 5, 9, 14, 20);
	for (int i = 32; i < 48; i += 4)
		FOUR_STEPS(MIX_H, 5, 3, i, 4, 11, 16, 23);
	for (int i = 48; i < 64; i += 4)
		FOUR_STEPS(MIX_I, 0, 7, i, 6, 10, 15, 21);
	state[0] += a & *mask;
	state[1] += b & *mask;
	state[2] += c & *mask;
	state[3] += d & *mask;
}

static inline uint32
little_endian(const unsigned char *p)
{
	return (uint32) p[0] | (uint32) p[1] << 8 | (uint32) p[2] << 16 | (uint32) p[3] << 24;
}

/* Blocks that a string makes with its padding: a bit of 1 and eight bytes of length. */
static inline int
blocks_of(int len)
{
	return (len + 1 + (BLOCK_SIZE - LENGTH_AT) + BLOCK_SIZE - 1) / BLOCK_SIZE;
}

/* Puts a string's block into its lane. */
static inline void
set_block(Block *block, int lane, const char *string, int len, int number)
{
	unsigned char bytes[BLOCK_SIZE] = {0};
	int begin = number * BLOCK_SIZE;
	int here = Min(Max(len - begin, 0), BLOCK_SIZE);

	memcpy(bytes, string + Min(begin, len), here);
	if (here < BLOCK_SIZE && begin + here == len && begin <= len)
		bytes[here] = 0x80;
	for (int i = 0; i < BLOCK_WORDS; i++)
		block->word[i][lane] = little_endian(bytes + i * sizeof(uint32));
	if (number == blocks_of(len) - 1)
	{
		block->word[LENGTH_AT / sizeof(uint32)][lane] = (uint32) len << 3;
		block->word[LENGTH_AT / sizeof(uint32) + 1][lane] = (uint32) len >> 29;
	}
}

void
kin_md5(const char *const *strings, const int *lens, int n, uint32 (*digests)[KIN_MD5_WORDS])
{
	static const uint32 initial[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
	Lanes state[4];
	Lanes mask;
	Block block = {0};
	int blocks = 0;

	Assert(n > 0 && n <= KIN_MD5_LANES);
	for (int i = 0; i < 4; i++)
		state[i] = (Lanes){0} + initial[i];
	for (int lane = 0; lane < n; lane++)
		blocks = Max(blocks, blocks_of(lens[lane]));
	for (int number = 0; number < blocks; number++)
	{
		CHECK_FOR_INTERRUPTS();
		mask = (Lanes){0};
		for (int lane = 0; lane < n; lane++)
		{
			if (number >= blocks_of(lens[lane]))
				continue;
			set_block(&block, lane, strings[lane], lens[lane], number);
			mask[lane] = ~(uint32) 0;
		}
		take_block(state, &block, &mask);
	}
	for (int lane = 0; lane < n; lane++)
		for (int i = 0; i < KIN_MD5_WORDS; i++)
			digests[lane][i] = pg_bswap32(state[i][lane]);
}
