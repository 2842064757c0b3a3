/*
 * record_unnest.h - unnest() of records in FROM.
 */
#ifndef KIN_RECORD_UNNEST_H
#define KIN_RECORD_UNNEST_H

/* In the postmaster: the planner offers the node. */
extern void kin_record_unnest_init(void);

#endif
