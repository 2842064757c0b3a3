/*
 * name_check.h - what streams and shards are called, and the rules that names given by callers must satisfy.
 */
#ifndef KIN_NAME_CHECK_H
#define KIN_NAME_CHECK_H

#define KIN_NAME_MAX 128 /* characters of a stream's name or a shard's id */

/* ARN of the stream with this name, in the region and account of the settings. */
extern char *kin_stream_arn(const char *name);

/* The name in a name or an ARN; raises when it is an ARN of elsewhere.  The name itself is not checked. */
extern const char *kin_name_in_arn(const char *name);

/* Raises ValidationException when this can't be a stream's name. */
extern void kin_check_stream_name(const char *name);

extern char *kin_shard_id(int32 index);

/*
 * The index in a shard id.  As on AWS "0", "shardId-0" and "any-prefix-0" all name the first shard.  Raises when there is
 * none in it; 'field' is the argument's name in the API.
 */
extern int32 kin_shard_index_in(const char *shard_id, const char *field, const char *stream_name);

#endif
