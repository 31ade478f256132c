# The addon. native/kernels/table.cc is compiled once per instruction set, each into a static library of its own with its
# own flags, and the engine chooses at run time. No library code of one instruction set may leak into another:
# test/build/symbols.test.ts looks at the symbols.
{
  'variables': {
    'common_cflags': ['-std=c++20', '-O3', '-ffp-contract=fast', '-fno-math-errno', '-fvisibility=hidden', '-Wno-psabi',
                      '-Wall', '-Wextra', '-Wno-unused-parameter', '-Wno-unused-function'],
    'avx2_cflags': ['-mavx2', '-mfma', '-mf16c'],
    'avx512_cflags': ['-mavx512f', '-mavx512vl', '-mavx512dq', '-mavx512bw', '-mavx2', '-mfma', '-mf16c',
                      '-mprefer-vector-width=512'],
  },
  'target_defaults': {
    'default_configuration': 'Release',
    'include_dirs': ['native'],
    'cflags!': ['-O2', '-fno-omit-frame-pointer'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-exceptions', '-fno-rtti', '-O2', '-fno-omit-frame-pointer'],
    'cflags_cc': ['<@(common_cflags)'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
      'GCC_OPTIMIZATION_LEVEL': '3',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'MACOSX_DEPLOYMENT_TARGET': '12.0',
      'OTHER_CPLUSPLUSFLAGS': ['-ffp-contract=fast', '-fno-math-errno'],
    },
  },
  'targets': [
    {
      'target_name': 'macl_baseline',
      'type': 'static_library',
      'sources': ['native/kernels/table.cc'],
      'defines': ['MACL_ISA=baseline', 'MACL_ISA_BASELINE'],
      'cflags_cc': ['-fno-exceptions', '-fno-rtti'],
    },
    {
      'target_name': 'macl_plain',
      'type': 'static_library',
      'sources': ['native/kernels/table.cc'],
      'defines': ['MACL_ISA=plain', 'MACL_ISA_PLAIN'],
      'cflags_cc': ['-fno-exceptions', '-fno-rtti'],
    },
    {
      'target_name': 'macl_ref64',
      'type': 'static_library',
      'sources': ['native/kernels/table.cc'],
      'defines': ['MACL_ISA=ref64', 'MACL_ISA_REF64'],
      'cflags_cc': ['-fno-exceptions', '-fno-rtti'],
    },
    {
      'target_name': 'macl',
      'type': 'loadable_module',
      'dependencies': ['macl_baseline', 'macl_plain', 'macl_ref64'],
      'sources': [
        '<!@(node scripts/sources.mjs native/engine native/napi)',
      ],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': ['NAPI_VERSION=8', 'NAPI_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED'],
      'conditions': [
        ['target_arch=="x64"', { 'dependencies': ['macl_avx2', 'macl_avx512'] }],
        ['OS=="linux"', { 'libraries': ['-lpthread'] }],
      ],
    },
  ],
  'conditions': [
    ['target_arch=="x64"', {
      'targets': [
        {
          'target_name': 'macl_avx2',
          'type': 'static_library',
          'sources': ['native/kernels/table.cc'],
          'defines': ['MACL_ISA=avx2', 'MACL_ISA_AVX2'],
          'cflags_cc': ['-fno-exceptions', '-fno-rtti', '<@(avx2_cflags)'],
          'xcode_settings': { 'OTHER_CPLUSPLUSFLAGS': ['<@(avx2_cflags)'] },
        },
        {
          'target_name': 'macl_avx512',
          'type': 'static_library',
          'sources': ['native/kernels/table.cc'],
          'defines': ['MACL_ISA=avx512', 'MACL_ISA_AVX512'],
          'cflags_cc': ['-fno-exceptions', '-fno-rtti', '<@(avx512_cflags)'],
          'xcode_settings': { 'OTHER_CPLUSPLUSFLAGS': ['<@(avx512_cflags)'] },
        },
      ],
    }],
  ],
}
