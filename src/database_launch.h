/*
 * database_launch.h - the launcher.
 */
#ifndef KIN_DATABASE_LAUNCH_H
#define KIN_DATABASE_LAUNCH_H

/* In the postmaster, at preload. */
extern void kin_database_launch_init(void);

#endif
