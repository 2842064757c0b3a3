/*
 * put_call.h - put_record and put_records.
 */
#ifndef KIN_PUT_CALL_H
#define KIN_PUT_CALL_H

extern void kin_put_call_init(void);

#endif
