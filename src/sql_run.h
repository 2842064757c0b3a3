/*
 * sql_run.h - runs the extension's own SQL functions as the extension's owner.
 */
#ifndef KIN_SQL_RUN_H
#define KIN_SQL_RUN_H

extern Oid kin_extension_owner(void);

/* A type of the extension. */
extern Oid kin_type(const char *name);

/* Sets what SQL code of the extension relies on; to be undone by AtEOXact_GUC() with the level returned. */
extern int kin_pin_settings(void);

/* The same for a user's code: it finds what is in its own schema. */
extern int kin_pin_path(const char *schema);

/*
 * Calls kinesis.<function>(arguments) as the owner, with settings pinned.  The function must return a
 * scalar or void; its result is returned when it is passed by value.
 */
extern Datum kin_run_sql(const char *function, int nargs, const Oid *types, const Datum *values);

#endif
