/*
 * settings_define.h - the settings (GUCs) of the extension.
 */
#ifndef KIN_SETTINGS_DEFINE_H
#define KIN_SETTINGS_DEFINE_H

extern char *kin_account_id_setting;
extern bool kin_aws_limits_setting;
extern double kin_clock_offset_setting;   /* milliseconds */
extern int kin_function_memory_setting;   /* kB, 0 = as much as there is */
extern int kin_function_timeout_setting;  /* milliseconds, 0 = none */
extern int kin_max_retry_backoff_setting; /* milliseconds */
extern int kin_max_shards_setting;
extern int kin_max_subscriptions_setting;
extern int kin_max_workers_setting;
extern char *kin_region_setting;
extern int kin_retained_memory_setting;   /* kB, 0 = as the C library likes */
extern int kin_iterator_lifetime_setting; /* seconds, 0 = for ever */

extern void kin_define_settings(void);

#endif
