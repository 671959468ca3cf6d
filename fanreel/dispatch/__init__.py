"""Which pool renders which segments next: a state machine without server or clock.

Uses plan and below.

Public:

    children: Cancel, Child, DispatchRules, Phase, Pool, SegmentRun, Start
    dispatcher: Dispatcher
    pools: DeviceKind, MeasuredSpeed, PoolChoice, choose_pools, encoders_on, expect_fps
"""
