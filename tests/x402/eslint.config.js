export default [{ rules: { "no-undef": "off", "no-unused-vars": "error", "prefer-const": "error", eqeqeq: "error" } }];
