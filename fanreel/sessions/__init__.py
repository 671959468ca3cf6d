"""Processes that hold encoders: their launcher, the gate that counts them, the devices they run on.

Uses draw, segments, encode and below, and forks.

Public:

    capacity: HostCapacity, SessionPlan, choose_sessions, read_capacity
    devices: CPU, Device, DeviceFailure, Devices, GateWrap
    gate: KernelLockGate, SessionGate, SessionSlot
    gpu_status: GpuStatus, list_nvml_gpus, read_driver_version, read_gpu_bytes, read_status
    gpus: count_sessions, nvml_is_open
    launcher: Launcher
    messages: CodecRequest, CodecWorks, FramesMade, HoldRequest, SegmentMade, ShardRequest, NVENC_CODECS
"""
