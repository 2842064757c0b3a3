/*
 * record_get.h - get_records.
 */
#ifndef KIN_RECORD_GET_H
#define KIN_RECORD_GET_H

extern void kin_record_get_init(void);

#endif
