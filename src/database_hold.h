/*
 * database_hold.h - commands that want a database for themselves.
 */
#ifndef KIN_DATABASE_HOLD_H
#define KIN_DATABASE_HOLD_H

extern void kin_database_hold_init(void);

#endif
