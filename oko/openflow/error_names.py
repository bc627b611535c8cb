"""Errors by name: what each is called and its numbers in each version of OpenFlow.

One row per error, one column per version that oko speaks: "type/code", "-" where the version has
no such error. N and O are errors of Nicira (0x2320) and of the Open Networking Foundation
(0x4f4e4600), sent as experimenter errors; in 1.0 Nicira's have their own form (type 0xb0c2).

The names are those of the specifications (1.0 to 1.5.1, "Error message"); where a later version
renamed one (vendor, experimenter) the first name stands, `ALIASES` has the others. The numbers
are checked against `ovs-ofctl print-error` in the tests.
"""

from __future__ import annotations

# name                            1.0      1.3      1.4      1.5
TABLE = """
OFPHFC_INCOMPATIBLE               0/0      0/0      0/0      0/0
OFPHFC_EPERM                      0/1      0/1      0/1      0/1
OFPBRC_BAD_VERSION                1/0      1/0      1/0      1/0
OFPBRC_BAD_TYPE                   1/1      1/1      1/1      1/1
OFPBRC_BAD_STAT                   1/2      1/2      1/2      1/2
OFPBRC_BAD_VENDOR                 1/3      1/3      1/3      1/3
OFPBRC_BAD_SUBTYPE                1/4      1/4      1/4      1/4
OFPBRC_EPERM                      1/5      1/5      1/5      1/5
OFPBRC_BAD_LEN                    1/6      1/6      1/6      1/6
OFPBRC_BUFFER_EMPTY               1/7      1/7      1/7      1/7
OFPBRC_BUFFER_UNKNOWN             1/8      1/8      1/8      1/8
OFPBRC_BAD_TABLE_ID               N1/512   1/9      1/9      1/9
OFPBRC_IS_SLAVE                   1/5      1/10     1/10     1/10
OFPBRC_BAD_PORT                   N1/514   1/11     1/11     1/11
OFPBRC_BAD_PACKET                 -        1/12     1/12     1/12
OFPBRC_MULTIPART_BUFFER_OVERFLOW  -        1/13     1/13     1/13
OFPBRC_MULTIPART_REQUEST_TIMEOUT  -        O2640    1/14     1/14
OFPBRC_MULTIPART_REPLY_TIMEOUT    -        O2641    1/15     1/15
OFPBRC_MULTIPART_BAD_SCHED        -        -        -        1/16
OFPBRC_PIPELINE_FIELDS_ONLY       -        -        -        1/17
OFPBRC_UNKNOWN                    -        -        -        1/18
OFPBAC_BAD_TYPE                   2/0      2/0      2/0      2/0
OFPBAC_BAD_LEN                    2/1      2/1      2/1      2/1
OFPBAC_BAD_VENDOR                 2/2      2/2      2/2      2/2
OFPBAC_BAD_VENDOR_TYPE            2/3      2/3      2/3      2/3
OFPBAC_BAD_OUT_PORT               2/4      2/4      2/4      2/4
OFPBAC_BAD_ARGUMENT               2/5      2/5      2/5      2/5
OFPBAC_EPERM                      2/6      2/6      2/6      2/6
OFPBAC_TOO_MANY                   2/7      2/7      2/7      2/7
OFPBAC_BAD_QUEUE                  2/8      2/8      2/8      2/8
OFPBAC_BAD_OUT_GROUP              N2/9     2/9      2/9      2/9
OFPBAC_MATCH_INCONSISTENT         N1/522   2/10     2/10     2/10
OFPBAC_UNSUPPORTED_ORDER          -        2/11     2/11     2/11
OFPBAC_BAD_TAG                    -        2/12     2/12     2/12
OFPBAC_BAD_SET_TYPE               N1/523   2/13     2/13     2/13
OFPBAC_BAD_SET_LEN                N1/524   2/14     2/14     2/14
OFPBAC_BAD_SET_ARGUMENT           N1/525   2/15     2/15     2/15
OFPBAC_BAD_SET_MASK               -        O4250    O4250    2/16
OFPBAC_BAD_METER                  -        -        -        2/17
OFPBIC_UNKNOWN_INST               -        3/0      3/0      3/0
OFPBIC_UNSUP_INST                 N2/257   3/1      3/1      3/1
OFPBIC_BAD_TABLE_ID               -        3/2      3/2      3/2
OFPBIC_UNSUP_METADATA             -        3/3      3/3      3/3
OFPBIC_UNSUP_METADATA_MASK        -        3/4      3/4      3/4
OFPBIC_BAD_EXPERIMENTER           -        3/5      3/5      3/5
OFPBIC_BAD_EXP_TYPE               -        3/6      3/6      3/6
OFPBIC_BAD_LEN                    -        3/7      3/7      3/7
OFPBIC_EPERM                      -        3/8      3/8      3/8
OFPBIC_DUP_INST                   -        O2600    3/9      3/9
OFPBMC_BAD_TYPE                   -        4/0      4/0      4/0
OFPBMC_BAD_LEN                    -        4/1      4/1      4/1
OFPBMC_BAD_TAG                    -        4/2      4/2      4/2
OFPBMC_BAD_DL_ADDR_MASK           -        4/3      4/3      4/3
OFPBMC_BAD_NW_ADDR_MASK           -        4/4      4/4      4/4
OFPBMC_BAD_WILDCARDS              N1/262   4/5      4/5      4/5
OFPBMC_BAD_FIELD                  N0/263   4/6      4/6      4/6
OFPBMC_BAD_VALUE                  N1/258   4/7      4/7      4/7
OFPBMC_BAD_MASK                   N1/259   4/8      4/8      4/8
OFPBMC_BAD_PREREQ                 N1/260   4/9      4/9      4/9
OFPBMC_DUP_FIELD                  N1/261   4/10     4/10     4/10
OFPBMC_EPERM                      -        4/11     4/11     4/11
OFPFMFC_UNKNOWN                   -        5/0      5/0      5/0
OFPFMFC_OVERLAP                   3/1      5/3      5/3      5/3
OFPFMFC_TABLE_FULL                3/0      5/1      5/1      5/1
OFPFMFC_EPERM                     3/2      5/4      5/4      5/4
OFPFMFC_BAD_TABLE_ID              -        5/2      5/2      5/2
OFPFMFC_BAD_EMERG_TIMEOUT         3/3      -        -        -
OFPFMFC_BAD_COMMAND               3/4      5/6      5/6      5/6
OFPFMFC_UNSUPPORTED               3/5      -        -        -
OFPFMFC_BAD_TIMEOUT               -        5/5      5/5      5/5
OFPFMFC_BAD_FLAGS                 N3/258   5/7      5/7      5/7
OFPFMFC_CANT_SYNC                 -        -        5/8      5/8
OFPFMFC_BAD_PRIORITY              -        O2360    5/9      5/9
OFPFMFC_IS_SYNC                   -        -        5/10     5/10
OFPGMFC_GROUP_EXISTS              N6/0     6/0      6/0      6/0
OFPGMFC_INVALID_GROUP             N6/1     6/1      6/1      6/1
OFPGMFC_WEIGHT_UNSUPPORTED        N6/2     6/2      6/2      6/2
OFPGMFC_OUT_OF_GROUPS             N6/3     6/3      6/3      6/3
OFPGMFC_OUT_OF_BUCKETS            N6/4     6/4      6/4      6/4
OFPGMFC_CHAINING_UNSUPPORTED      N6/5     6/5      6/5      6/5
OFPGMFC_WATCH_UNSUPPORTED         N6/6     6/6      6/6      6/6
OFPGMFC_LOOP                      N6/7     6/7      6/7      6/7
OFPGMFC_UNKNOWN_GROUP             N6/8     6/8      6/8      6/8
OFPGMFC_CHAINED_GROUP             N6/9     6/9      6/9      6/9
OFPGMFC_BAD_TYPE                  N6/10    6/10     6/10     6/10
OFPGMFC_BAD_COMMAND               N6/11    6/11     6/11     6/11
OFPGMFC_BAD_BUCKET                N6/12    6/12     6/12     6/12
OFPGMFC_BAD_WATCH                 N6/13    6/13     6/13     6/13
OFPGMFC_EPERM                     N6/14    6/14     6/14     6/14
OFPGMFC_UNKNOWN_BUCKET            N6/15    -        -        6/15
OFPGMFC_BUCKET_EXISTS             N6/16    -        -        6/16
OFPPMFC_BAD_PORT                  4/0      7/0      7/0      7/0
OFPPMFC_BAD_HW_ADDR               4/1      7/1      7/1      7/1
OFPPMFC_BAD_CONFIG                -        7/2      7/2      7/2
OFPPMFC_BAD_ADVERTISE             -        7/3      7/3      7/3
OFPPMFC_EPERM                     -        7/4      7/4      7/4
OFPTMFC_BAD_TABLE                 -        8/0      8/0      8/0
OFPTMFC_BAD_CONFIG                -        8/1      8/1      8/1
OFPTMFC_EPERM                     -        8/2      8/2      8/2
OFPQOFC_BAD_PORT                  5/0      9/0      9/0      9/0
OFPQOFC_BAD_QUEUE                 5/1      9/1      9/1      9/1
OFPQOFC_EPERM                     5/2      9/2      9/2      9/2
OFPSCFC_BAD_FLAGS                 -        10/0     10/0     10/0
OFPSCFC_BAD_LEN                   -        10/1     10/1     10/1
OFPSCFC_EPERM                     -        10/2     10/2     10/2
OFPRRFC_STALE                     -        11/0     11/0     11/0
OFPRRFC_UNSUP                     -        11/1     11/1     11/1
OFPRRFC_BAD_ROLE                  N1/513   11/2     11/2     11/2
OFPRRFC_ID_UNSUP                  -        -        -        11/3
OFPRRFC_ID_IN_USE                 -        -        -        11/4
OFPMMFC_UNKNOWN                   -        12/0     12/0     12/0
OFPMMFC_METER_EXISTS              -        12/1     12/1     12/1
OFPMMFC_INVALID_METER             -        12/2     12/2     12/2
OFPMMFC_UNKNOWN_METER             -        12/3     12/3     12/3
OFPMMFC_BAD_COMMAND               -        12/4     12/4     12/4
OFPMMFC_BAD_FLAGS                 -        12/5     12/5     12/5
OFPMMFC_BAD_RATE                  -        12/6     12/6     12/6
OFPMMFC_BAD_BURST                 -        12/7     12/7     12/7
OFPMMFC_BAD_BAND                  -        12/8     12/8     12/8
OFPMMFC_BAD_BAND_VALUE            -        12/9     12/9     12/9
OFPMMFC_OUT_OF_METERS             -        12/10    12/10    12/10
OFPMMFC_OUT_OF_BANDS              -        12/11    12/11    12/11
OFPTFFC_BAD_TABLE                 -        13/0     13/0     13/0
OFPTFFC_BAD_METADATA              -        13/1     13/1     13/1
OFPTFFC_BAD_TYPE                  -        13/2     13/2     -
OFPTFFC_BAD_LEN                   -        13/3     13/3     13/3
OFPTFFC_BAD_ARGUMENT              -        13/4     13/4     13/4
OFPTFFC_EPERM                     -        13/5     13/5     13/5
OFPTFFC_BAD_MAX_ENT               -        -        -        13/7
OFPTFFC_BAD_FEATURES              -        -        -        13/8
OFPTFFC_BAD_COMMAND               -        -        -        13/9
OFPTFFC_TOO_MANY                  -        -        -        13/10
OFPBPC_BAD_TYPE                   N13/2    13/2     14/0     14/0
OFPBPC_BAD_LEN                    N13/3    13/3     14/1     14/1
OFPBPC_BAD_VALUE                  N13/4    13/4     14/2     14/2
OFPBPC_TOO_MANY                   N14/3    O4443    14/3     14/3
OFPBPC_DUP_TYPE                   N14/4    O4444    14/4     14/4
OFPBPC_BAD_EXPERIMENTER           N14/5    O4445    14/5     14/5
OFPBPC_BAD_EXP_TYPE               N14/6    O4446    14/6     14/6
OFPBPC_BAD_EXP_VALUE              N14/7    O4447    14/7     14/7
OFPBPC_EPERM                      N14/8    O4448    14/8     14/8
OFPACFC_INVALID                   -        O2370    15/0     15/0
OFPACFC_UNSUPPORTED               -        O2371    15/1     15/1
OFPACFC_EPERM                     -        O2372    15/2     15/2
OFPMOFC_UNKNOWN                   -        -        16/0     16/0
OFPMOFC_MONITOR_EXISTS            N1/517   N6       16/1     16/1
OFPMOFC_INVALID_MONITOR           -        -        16/2     16/2
OFPMOFC_UNKNOWN_MONITOR           N1/519   N8       16/3     16/3
OFPMOFC_BAD_COMMAND               -        -        16/4     16/4
OFPMOFC_BAD_FLAGS                 N1/518   N7       16/5     16/5
OFPMOFC_BAD_TABLE_ID              -        -        16/6     16/6
OFPMOFC_BAD_OUT                   -        -        16/7     16/7
OFPBFC_UNKNOWN                    -        O2300    17/0     17/0
OFPBFC_EPERM                      -        O2301    17/1     17/1
OFPBFC_BAD_ID                     -        O2302    17/2     17/2
OFPBFC_BUNDLE_EXIST               -        O2303    17/3     17/3
OFPBFC_BUNDLE_CLOSED              -        O2304    17/4     17/4
OFPBFC_OUT_OF_BUNDLES             -        O2305    17/5     17/5
OFPBFC_BAD_TYPE                   -        O2306    17/6     17/6
OFPBFC_BAD_FLAGS                  -        O2307    17/7     17/7
OFPBFC_MSG_BAD_LEN                -        O2308    17/8     17/8
OFPBFC_MSG_BAD_XID                -        O2309    17/9     17/9
OFPBFC_MSG_UNSUP                  -        O2310    17/10    17/10
OFPBFC_MSG_CONFLICT               -        O2311    17/11    17/11
OFPBFC_MSG_TOO_MANY               -        O2312    17/12    17/12
OFPBFC_MSG_FAILED                 -        O2313    17/13    17/13
OFPBFC_TIMEOUT                    -        O2314    17/14    17/14
OFPBFC_BUNDLE_IN_PROGRESS         -        O2315    17/15    17/15
OFPBFC_SCHED_NOT_SUPPORTED        -        -        -        17/16
OFPBFC_SCHED_FUTURE               -        -        -        17/17
OFPBFC_SCHED_PAST                 -        -        -        17/18
NXBRC_NXM_BAD_TYPE                N1/257   N3       N3       N3
NXBRC_UNENCODABLE_ERROR           N1/521   N10      N10      N10
NXBRC_MUST_BE_ZERO                N1/515   N4       N4       N4
NXBAC_BAD_CONJUNCTION             N2/526   N15      N15      N15
NXFMFC_HARDWARE                   N5/256   N12      N12      N12
NXFMFC_BAD_TABLE_ID               N5/257   N13      N13      N13
NXFMFC_INVALID_TLV_FIELD          N1/536   N37      N37      N37
NXR_STALE                         N1/534   N35      N35      N35
"""

ALIASES = {
    "OFPBRC_BAD_EXPERIMENTER": "OFPBRC_BAD_VENDOR",
    "OFPBRC_BAD_EXP_TYPE": "OFPBRC_BAD_SUBTYPE",
    "OFPBRC_BAD_MULTIPART": "OFPBRC_BAD_STAT",
    "OFPBAC_BAD_EXPERIMENTER": "OFPBAC_BAD_VENDOR",
    "OFPBAC_BAD_EXP_TYPE": "OFPBAC_BAD_VENDOR_TYPE",
    "OFPFMFC_ALL_TABLES_FULL": "OFPFMFC_TABLE_FULL",
}
"""Other names of the same error."""

INSTEAD = {
    "OFPBMC_BAD_LEN": "OFPBRC_BAD_LEN",
    "OFPBMC_BAD_TYPE": "NXBRC_NXM_BAD_TYPE",
    "OFPBIC_BAD_LEN": "OFPBAC_BAD_LEN",
    "OFPBIC_UNKNOWN_INST": "OFPBAC_BAD_TYPE",
    "OFPBIC_BAD_TABLE_ID": "NXFMFC_BAD_TABLE_ID",
    "OFPBAC_BAD_SET_MASK": "OFPBAC_BAD_SET_ARGUMENT",
    "OFPBAC_BAD_TAG": "OFPBAC_BAD_ARGUMENT",
    "OFPFMFC_BAD_TABLE_ID": "NXFMFC_BAD_TABLE_ID",
    "OFPFMFC_UNKNOWN": "OFPFMFC_EPERM",
    "OFPTFFC_BAD_TYPE": "OFPBPC_BAD_TYPE",
    "OFPTMFC_BAD_TABLE": "OFPBRC_BAD_TABLE_ID",
    "OFPBRC_BAD_PACKET": "OFPBRC_BAD_LEN",
}
"""What to say in a version that lacks the error; else NXBRC_UNENCODABLE_ERROR."""
