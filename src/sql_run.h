/*
 * sql_run.h - runs the extension's own SQL functions as the extension's owner.
 */
#ifndef KIN_SQL_RUN_H
#define KIN_SQL_RUN_H

extern Oid kin_extension_owner(void);

/*
 * Calls kinesis.<function>(arguments) as the owner, with search_path = pg_catalog, pg_temp.  The function must return a
 * scalar or void; its result is returned when it is passed by value.
 */
extern Datum kin_run_sql(const char *function, int nargs, const Oid *types, const Datum *values);

#endif
