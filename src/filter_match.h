/*
 * filter_match.h - the filters of event source mappings: which records a function is called with.
 *
 * A record passes if one filter's pattern matches {kinesisSchemaVersion, partitionKey, sequenceNumber,
 * approximateArrivalTimestamp, data}, data being the record's data read as JSON.
 */
#ifndef KIN_FILTER_MATCH_H
#define KIN_FILTER_MATCH_H

#include "filter_compile.h"

/*
 * Does this record pass?  Without filters (null) all do.  Key and data are not toasted, but may have short headers.  Leaves
 * scratch in the current memory context.
 */
extern bool kin_filters_match(const KinFilters *filters, int64 number, struct varlena *key, struct varlena *data);

#endif
